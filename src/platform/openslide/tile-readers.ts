/** The processes that cut tiles of slides for the server: one for each slide that somebody looks at, for a while. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { childEnvironmentWithoutSecrets } from '../../env.ts';
import {
  tileReplySchema,
  type SlideToOpen,
  type TilePlace,
  type TileReply,
  type TileRequest,
} from '../../protocol/slide-tiles.ts';

/** A person is told why there is no picture. */
export class TileError extends Error {
  override readonly name = 'TileError';
}

export interface TileReaders extends AsyncDisposable {
  /**
   * A tile as JPEG. The first one of a slide starts its process.
   * @param key of the slide: the same for the same slide.
   * @throws TileError if the slide or the tile cannot be read; Error if no process starts.
   */
  tile(key: string, slide: SlideToOpen, place: TilePlace): Promise<Buffer>;
}

export interface TileReadersOptions {
  /** Slides that are open at once. */
  readonly processCount?: number;
  /** A slide that nobody looks at is closed after this time. */
  readonly idleMs?: number;
}

const PROGRAM = path.resolve(import.meta.dirname, '../../../workers/imaging/slides/tiles.program.ts');
const PROCESS_COUNT = 4;
const IDLE_MS = 60_000;

interface TileReader {
  readonly tile: (place: TilePlace) => Promise<Buffer>;
  readonly close: () => Promise<void>;
  readonly hasEnded: () => boolean;
}

export function openTileReaders({
  processCount = PROCESS_COUNT,
  idleMs = IDLE_MS,
}: TileReadersOptions = {}): TileReaders {
  /** In the order of their last use. */
  const open = new Map<string, { readonly reader: TileReader; timer: NodeJS.Timeout }>();
  const drop = async (key: string): Promise<void> => {
    const held = open.get(key);
    if (held === undefined) return;
    open.delete(key);
    clearTimeout(held.timer);
    await held.reader.close();
  };
  const use = (key: string, slide: SlideToOpen): TileReader => {
    const held = open.get(key);
    if (held !== undefined) clearTimeout(held.timer);
    const reader = held === undefined || held.reader.hasEnded() ? startTileReader(slide) : held.reader;
    open.delete(key);
    const timer = setTimeout(() => void drop(key), idleMs);
    timer.unref();
    open.set(key, { reader, timer });
    const [oldest] = open.keys();
    if (open.size > processCount && oldest !== undefined) void drop(oldest);
    return reader;
  };
  return {
    tile: (key, slide, place) => use(key, slide).tile(place),
    [Symbol.asyncDispose]: async () => {
      await Promise.all([...open.keys()].map(drop));
    },
  };
}

function startTileReader(slide: SlideToOpen): TileReader {
  const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', PROGRAM, JSON.stringify(slide)], {
    env: childEnvironmentWithoutSecrets({}),
    stdio: ['pipe', 'pipe', 'ignore'],
  });
  const opened = Promise.withResolvers<void>();
  // Whoever asks for a tile awaits it; it may fail before.
  opened.promise.catch(() => undefined);
  const waiting = new Map<number, PromiseWithResolvers<Buffer>>();
  let hasEnded = false;
  let lastId = 0;
  createInterface({ input: child.stdout }).on('line', (line) => {
    const reply = replyOf(line);
    if (reply === undefined) {
      child.kill('SIGKILL');
      return;
    }
    switch (reply.kind) {
      case 'OPENED':
        opened.resolve();
        break;
      case 'NOT_OPENED':
        opened.reject(new TileError(reply.reason));
        break;
      case 'TILE':
        waiting.get(reply.id)?.resolve(Buffer.from(reply.jpeg, 'base64'));
        waiting.delete(reply.id);
        break;
      case 'NO_TILE':
        waiting.get(reply.id)?.reject(new TileError(reply.reason));
        waiting.delete(reply.id);
        break;
    }
  });
  // What a process that has ended no longer reads is lost; its waiting tiles fail below.
  child.stdin.on('error', () => undefined);
  const ended = once(child, 'close').catch(() => undefined);
  void ended.then(() => {
    hasEnded = true;
    const error = new TileError('The program that reads the slide has ended.');
    opened.reject(error);
    for (const each of waiting.values()) each.reject(error);
    waiting.clear();
  });
  return {
    tile: async (place) => {
      await opened.promise;
      if (hasEnded) throw new TileError('The program that reads the slide has ended.');
      const id = (lastId += 1);
      const answer = Promise.withResolvers<Buffer>();
      waiting.set(id, answer);
      const request: TileRequest = { id, ...place };
      child.stdin.write(`${JSON.stringify(request)}\n`);
      return answer.promise;
    },
    close: async () => {
      child.kill('SIGTERM');
      await ended;
    },
    hasEnded: () => hasEnded,
  };
}

/** Undefined for anything else, after which nothing of the program can be trusted. */
function replyOf(line: string): TileReply | undefined {
  try {
    return tileReplySchema.parse(JSON.parse(line));
  } catch {
    return undefined;
  }
}
