/** The shards of a sealed version, as a reading of images opens them. */
import type { SealedVersionRecord } from '../../src/modules/datasets/index.ts';
import type { ShardSource } from '../engine/data/opened-shard.ts';
import type { TaskContext } from './task.ts';

/** Shards of a reading that were asked for. */
export interface FetchedShards {
  /** Being fetched or verified. */
  pendingCount: number;
  readyCount: number;
}

/**
 * A shard is fetched and verified as a whole before any image is read from it, because a run must not use bytes that
 * have changed: when its images are needed, not before the first step, so that a large dataset starts as fast as a
 * small one.
 *
 * @param fetched is kept up to date.
 */
export function shardSourcesOf(
  context: TaskContext,
  version: Pick<SealedVersionRecord, 'shards'>,
  fetched: FetchedShards = { pendingCount: 0, readyCount: 0 },
): ShardSource[] {
  return version.shards.map(({ sha256, imageCount }) => ({
    imageCount,
    open: async () => {
      context.throwIfStopped();
      fetched.pendingCount += 1;
      try {
        const { path, release } = await context.localFile(sha256);
        fetched.readyCount += 1;
        return { path, places: null, release };
      } finally {
        fetched.pendingCount -= 1;
      }
    },
  }));
}
