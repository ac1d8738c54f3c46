/** The shards of a sealed version, as a reading of images opens them. */
import { open } from 'node:fs/promises';
import { ManifestError, walkShard, type ManifestRows } from '../../src/formats/manifest/index.ts';
import type { LocalFile } from '../../src/platform/artifact-store/index.ts';
import { accessFile } from '../../src/formats/random-access.ts';
import type { ImagePlaces, ShardSource } from '../engine/data/opened-shard.ts';
import type { TaskContext } from './task.ts';
import { openVersionManifest, type OpenedManifest, type VersionWithManifest } from './version-manifest.ts';

const STOP_POLL_MS = 100;

export interface ShardSources extends AsyncDisposable {
  /** In the order of the version. */
  readonly shards: readonly ShardSource[];
}

/** Shards of a reading that were asked for. */
export interface FetchedShards {
  /** Being fetched or verified. */
  pendingCount: number;
  readyCount: number;
}

/**
 * A shard is fetched and verified as a whole before any image is read from it, because a run must not use bytes that
 * have changed; its part of the manifest is read then, too. Both happen when its images are needed, not before the
 * first step, so that a large dataset starts as fast as a small one.
 *
 * @param fetched is kept up to date.
 */
export function openShardSources(
  { localFile, throwIfStopped }: Pick<TaskContext, 'localFile' | 'throwIfStopped'>,
  version: VersionWithManifest,
  fetched: FetchedShards = { pendingCount: 0, readyCount: 0 },
): ShardSources {
  const localFileUnlessStopped: TaskContext['localFile'] = (sha256) => {
    throwIfStopped();
    return unlessStopped(localFile(sha256), throwIfStopped);
  };
  const listed = createPlaces({ localFile: localFileUnlessStopped }, version);
  let firstRow = 0;
  const shards = version.shards.map(({ sha256, imageCount }, shard): ShardSource => {
    const rows = { shard, firstRow, rowCount: imageCount };
    firstRow += imageCount;
    return {
      imageCount,
      open: async () => {
        throwIfStopped();
        fetched.pendingCount += 1;
        try {
          const { path, release } = await localFileUnlessStopped(sha256);
          try {
            const places = (await listed.of(rows)) ?? (await placesByWalk(path, shard));
            fetched.readyCount += 1;
            return { path, places, release };
          } catch (error) {
            await release();
            throw error;
          }
        } finally {
          fetched.pendingCount -= 1;
        }
      },
    };
  });
  return { shards, [Symbol.asyncDispose]: listed.close };
}

/**
 * A shard of a slow store takes minutes, and a person who stops a run does not wait for it.
 * @throws what `throwIfStopped` throws; the file is released when it arrives after all.
 */
async function unlessStopped(arriving: Promise<LocalFile>, throwIfStopped: () => void): Promise<LocalFile> {
  const stopped = Promise.withResolvers<never>();
  const timer = setInterval(() => {
    try {
      throwIfStopped();
    } catch (error) {
      stopped.reject(error);
    }
  }, STOP_POLL_MS);
  try {
    return await Promise.race([arriving, stopped.promise]);
  } catch (error) {
    // Does nothing where it is the arrival that failed.
    void arriving.then((file) => file.release()).catch(() => undefined);
    throw error;
  } finally {
    clearInterval(timer);
  }
}

interface ShardRows {
  readonly shard: number;
  readonly firstRow: number;
  readonly rowCount: number;
}

interface ListedPlaces {
  /** From the manifest; null for a version whose manifest has no offsets. Throws ManifestError. */
  of(rows: ShardRows): Promise<ImagePlaces | null>;
  close(): Promise<void>;
}

const PLACE_COLUMNS = ['shard', 'byteOffset', 'byteLength'] as const;
type PlaceRows = ManifestRows<(typeof PLACE_COLUMNS)[number]>;
/** Blocks of 65,536 rows, of one megabyte each; shards that follow each other share them. */
const BLOCKS_KEPT = 64;

/** Opens the manifest when the first shard is opened, and reads those of its row groups that hold wanted shards. */
function createPlaces(context: Pick<TaskContext, 'localFile'>, version: VersionWithManifest): ListedPlaces {
  let manifest: Promise<OpenedManifest> | undefined;
  const blocks = new Map<number, PlaceRows>();
  /** One after another, so that two shards of one block read it once. */
  let last: Promise<unknown> = Promise.resolve();

  const blockWith = async (row: number): Promise<PlaceRows> => {
    const known = blocks.values().find(({ firstRow, rowCount }) => firstRow <= row && row < firstRow + rowCount);
    if (known !== undefined) return known;
    const opened = await (manifest ??= openVersionManifest(context, version));
    for await (const block of opened.rows(PLACE_COLUMNS, row)) {
      blocks.set(block.firstRow, block);
      const [oldest] = blocks.keys();
      if (blocks.size > BLOCKS_KEPT && oldest !== undefined) blocks.delete(oldest);
      return block;
    }
    throw new RangeError(`The manifest has no row ${row}.`);
  };
  const read = async ({ shard, firstRow, rowCount }: ShardRows): Promise<ImagePlaces> => {
    const places = { byteOffset: new Float64Array(rowCount), byteLength: new Uint32Array(rowCount) };
    for (let done = 0; done < rowCount;) {
      const block = await blockWith(firstRow + done);
      const start = firstRow + done - block.firstRow;
      const end = Math.min(block.rowCount, start + rowCount - done);
      for (let row = start; row < end; row += 1)
        if (block.columns.shard[row] !== shard)
          throw new ManifestError(
            'MANIFEST_ROW_INVALID',
            `Row ${block.firstRow + row} of the manifest: it lies in shard ${block.columns.shard[row]}, and by the numbers of images of the shards it lies in shard ${shard}.`,
          );
      places.byteOffset.set(block.columns.byteOffset.subarray(start, end), done);
      places.byteLength.set(block.columns.byteLength.subarray(start, end), done);
      done += end - start;
    }
    return places;
  };
  return {
    of: async (rows) => {
      const { format } = await (manifest ??= openVersionManifest(context, version));
      if (format === 'JSON_LINES') return null;
      const places = last.then(() => read(rows));
      last = places.catch(() => undefined);
      return places;
    },
    close: async () => {
      await (await manifest?.catch(() => undefined))?.[Symbol.asyncDispose]();
    },
  };
}

async function placesByWalk(shardPath: string, shard: number): Promise<ImagePlaces> {
  await using file = await open(shardPath);
  const images = await walkShard(accessFile(file, (await file.stat()).size), `shard ${shard}`);
  return {
    byteOffset: Float64Array.from(images, ({ byteOffset }) => byteOffset),
    byteLength: Uint32Array.from(images, ({ byteLength }) => byteLength),
  };
}
