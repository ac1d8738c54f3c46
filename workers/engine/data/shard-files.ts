/**
 * The open shards of a reading: a bounded number, opened ahead of the images that need them and closed when the window
 * has passed them.
 */
import { ImageDataError } from './errors.ts';
import { openSource, type OpenedShard, type ShardSource } from './opened-shard.ts';

export interface ShardFiles {
  /**
   * Opens the shard if it is not open, and keeps it open until `work` has ended.
   * @param shard index into the sources.
   * @throws what `openSource` and `work` throw, or READER_CLOSED.
   */
  use<Result>(shard: number, work: (opened: OpenedShard) => Result | Promise<Result>): Promise<Result>;
  /**
   * Opens these shards one after another while other work goes on, and closes shards that were not among those of the
   * last few calls. A failure is left to the image that needs the shard.
   */
  openAhead(shards: readonly number[]): void;
  /** Waits until every file is closed. */
  close(): Promise<void>;
}

/** The most shards that a reading has open. */
export const OPEN_SHARDS_MAX = 512;
/** Shards that are fetched, verified or walked at a time: more of them would only compete for the same disk. */
const OPENING_MAX = 4;
/** Batches in preparation still read the shards of the calls before. */
const CALLS_KEPT = 8;

interface Entry {
  readonly opened: Promise<OpenedShard>;
  /** Uses in progress. */
  userCount: number;
  /** Number of the call of `openAhead` that wanted it last. */
  wantedIn: number;
}

/** @param openMax the most shards that are open at a time. */
export function openShardFiles(sources: readonly ShardSource[], openMax = OPEN_SHARDS_MAX): ShardFiles {
  /** The least recently used one first. */
  const entries = new Map<number, Entry>();
  const closing = new Set<Promise<void>>();
  const limited = createLimiter(OPENING_MAX);
  let change = Promise.withResolvers<void>();
  let callCount = 0;
  let ahead: readonly number[] = [];
  /** Not tried again until an image needs them. */
  const unopenable = new Set<number>();
  let openingAhead: Promise<void> | null = null;
  let isClosed = false;

  const announceChange = (): void => {
    change.resolve();
    change = Promise.withResolvers();
  };
  const hasRoom = (): boolean => entries.size + closing.size < openMax;
  const evict = (shard: number, { opened }: Entry): void => {
    entries.delete(shard);
    const closed = opened
      .then((file) => file.close())
      .catch(() => undefined)
      .finally(() => {
        closing.delete(closed);
        announceChange();
      });
    closing.add(closed);
  };
  const findUnused = (mayClose: (entry: Entry) => boolean): [number, Entry] | undefined =>
    entries.entries().find(([, entry]) => entry.userCount === 0 && mayClose(entry));

  const openOne = async (shard: number): Promise<OpenedShard> => {
    const source = sources[shard];
    if (source === undefined)
      throw new ImageDataError('IMAGE_MISSING', `The manifest names shard ${shard}, which is not there.`);
    return limited(async () => {
      if (isClosed) throw closedError();
      return openSource(source);
    });
  };
  /** @returns the entry of the shard with one more user. */
  const enter = async (shard: number): Promise<Entry> => {
    for (;;) {
      if (isClosed) throw closedError();
      const known = entries.get(shard);
      if (known !== undefined || hasRoom()) {
        const entry = known ?? { opened: openOne(shard), userCount: 0, wantedIn: callCount };
        entry.opened.catch(() => undefined);
        // The order of the map is that of the last use.
        entries.delete(shard);
        entries.set(shard, entry);
        entry.userCount += 1;
        return entry;
      }
      const unused = findUnused(() => true);
      if (unused !== undefined) evict(...unused);
      await change.promise;
    }
  };
  const use: ShardFiles['use'] = async (shard, work) => {
    const entry = await enter(shard);
    try {
      const opened = await entry.opened.catch((error: unknown) => {
        // The next image that needs the shard tries again.
        if (entries.get(shard) === entry) entries.delete(shard);
        throw error;
      });
      return await work(opened);
    } finally {
      entry.userCount -= 1;
      announceChange();
    }
  };
  const openWanted = async (): Promise<void> => {
    for (;;) {
      const shard = ahead.find((wanted) => !entries.has(wanted) && !unopenable.has(wanted));
      // Opening a shard ahead closes none that may be in use.
      if (shard === undefined || !hasRoom() || isClosed) return;
      await use(shard, () => undefined).catch(() => unopenable.add(shard));
    }
  };

  return {
    use,
    openAhead: (shards) => {
      if (isClosed) return;
      callCount += 1;
      for (const shard of shards) {
        const entry = entries.get(shard);
        if (entry !== undefined) entry.wantedIn = callCount;
      }
      for (;;) {
        const passed = findUnused(({ wantedIn }) => callCount - wantedIn > CALLS_KEPT);
        if (passed === undefined) break;
        evict(...passed);
      }
      ahead = shards;
      openingAhead ??= openWanted().finally(() => (openingAhead = null));
    },
    close: async () => {
      isClosed = true;
      announceChange();
      await openingAhead;
      // A descriptor that is closed during a read may become that of another file.
      while (entries.values().some(({ userCount }) => userCount > 0)) await change.promise;
      for (const [shard, entry] of entries) evict(shard, entry);
      await Promise.all(closing);
    },
  };
}

function closedError(): ImageDataError {
  return new ImageDataError('READER_CLOSED', 'This reading has been closed.');
}

/** Runs at most `limit` pieces of work at a time, in the order of the calls. */
function createLimiter(limit: number): <Result>(work: () => Promise<Result>) => Promise<Result> {
  let running = 0;
  const waiting: (() => void)[] = [];
  return async (work) => {
    if (running >= limit) await new Promise<void>((resolve) => waiting.push(resolve));
    else running += 1;
    try {
      return await work();
    } finally {
      const next = waiting.shift();
      if (next === undefined) running -= 1;
      else next();
    }
  };
}
