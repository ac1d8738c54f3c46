/** Bytes on their way to the registry or to its bucket: named by their sha256, and sent more than once if need be. */
import { createHash, randomUUID } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { open, rm } from 'node:fs/promises';
import path from 'node:path';
import { Readable } from 'node:stream';
import {
  isFileSource,
  type ByteSource,
  type FileSource,
  type StoredBytes,
} from '../../src/platform/artifact-store/index.ts';

export interface Outgoing extends StoredBytes {
  /** From this byte on. */
  body(first: number): ReadableStream | Uint8Array<ArrayBuffer>;
  /** @throws Error for a file that has become shorter. */
  part(first: number, byteCount: number): Promise<Uint8Array<ArrayBuffer>>;
  remove(): Promise<void>;
}

/** @param workDir for the bytes of a stream. */
export async function outgoingOf(source: ByteSource, workDir: string): Promise<Outgoing> {
  if (source instanceof Uint8Array) return fromMemory(source);
  return isFileSource(source) ? fromFile(source.file) : spooled(source, workDir);
}

function fromMemory(bytes: Uint8Array): Outgoing {
  const sha256 = createHash('sha256').update(bytes).digest('hex');
  const body = new Uint8Array(bytes);
  return {
    ...{ sha256, byteSize: bytes.length },
    body: (first) => body.subarray(first),
    part: (first, byteCount) => Promise.resolve(body.subarray(first, first + byteCount)),
    remove: () => Promise.resolve(),
  };
}

/** Nobody writes to it meanwhile, so it is read twice: for its name, and to be sent. */
async function fromFile(file: string): Promise<Outgoing> {
  const hash = createHash('sha256');
  let byteSize = 0;
  for await (const chunk of createReadStream(file, { highWaterMark: 1024 * 1024 })) {
    const bytes: Buffer = chunk;
    hash.update(bytes);
    byteSize += bytes.length;
  }
  return { ...{ sha256: hash.digest('hex'), byteSize }, ...readsOf(file), remove: () => Promise.resolve() };
}

/** Written to the disk first: what is sent has a known digest and size, and can be sent again. */
async function spooled(source: Exclude<ByteSource, Uint8Array | FileSource>, workDir: string): Promise<Outgoing> {
  const file = path.join(workDir, `${randomUUID()}.outgoing`);
  const remove = (): Promise<void> => rm(file, { force: true });
  const hash = createHash('sha256');
  let byteSize = 0;
  try {
    await using handle = await open(file, 'wx', 0o600);
    for await (const chunk of source) {
      const bytes = typeof chunk === 'string' ? Buffer.from(chunk) : chunk;
      hash.update(bytes);
      byteSize += bytes.length;
      await handle.writeFile(bytes);
    }
  } catch (error) {
    await remove();
    throw error;
  }
  return { ...{ sha256: hash.digest('hex'), byteSize }, ...readsOf(file), remove };
}

function readsOf(file: string): Pick<Outgoing, 'body' | 'part'> {
  return {
    body: (first) => Readable.toWeb(createReadStream(file, { start: first })),
    part: async (first, byteCount) => {
      await using handle = await open(file, 'r');
      const bytes = new Uint8Array(byteCount);
      for (let filled = 0; filled < byteCount;) {
        const { bytesRead } = await handle.read(bytes, filled, byteCount - filled, first + filled);
        if (bytesRead === 0) throw new Error(`${file} has become shorter while it was sent.`);
        filled += bytesRead;
      }
      return bytes;
    },
  };
}
