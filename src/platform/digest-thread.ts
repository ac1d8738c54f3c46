/**
 * sha256 in a thread, for bytes that arrive faster than one core can both receive and hash them. Only bytes in shared
 * memory go there, because any others would have to be copied; a digest that begins with other bytes is computed at
 * once.
 */
import { createHash } from 'node:crypto';
import path from 'node:path';
import { Worker } from 'node:worker_threads';

export interface Digest {
  /** Bytes are hashed in the order of the calls. @returns once they have been read, and may be overwritten. */
  update(bytes: Uint8Array): Promise<void>;
  /** In hex. */
  digest(): Promise<string>;
}

export interface DigestMessage {
  readonly id: number;
  /** Null asks for the digest, and ends it. */
  readonly bytes: Uint8Array | null;
}

interface Thread {
  send(message: DigestMessage): Promise<string | null>;
}

const PROGRAM = path.join(import.meta.dirname, 'digest.program.ts');

/** One for all digests of the process: each takes a core for as long as its bytes arrive. */
let thread: Thread | undefined;
let lastId = 0;

export function createSha256(): Digest {
  const id = (lastId += 1);
  const hash = createHash('sha256');
  let isThreaded: boolean | undefined;
  return {
    update: async (bytes) => {
      isThreaded ??= bytes.buffer instanceof SharedArrayBuffer;
      if (isThreaded) await (thread ??= startThread()).send({ id, bytes });
      else hash.update(bytes);
    },
    digest: async () => {
      if (isThreaded !== true) return hash.digest('hex');
      return (await (thread ??= startThread()).send({ id, bytes: null })) ?? '';
    },
  };
}

function startThread(): Thread {
  const worker = new Worker(PROGRAM);
  const waiting: PromiseWithResolvers<string | null>[] = [];
  // It keeps the process alive only while somebody waits for it.
  worker.unref();
  worker.on('message', (answer: string | null) => {
    waiting.shift()?.resolve(answer);
    if (waiting.length === 0) worker.unref();
  });
  worker.on('error', (error) => {
    thread = undefined;
    for (const { reject } of waiting.splice(0)) reject(error);
  });
  return {
    send: (message) => {
      const answer = Promise.withResolvers<string | null>();
      waiting.push(answer);
      worker.ref();
      worker.postMessage(message);
      return answer.promise;
    },
  };
}
