/** The shards of a sealed version, as a reading of images opens them. */
import type { SealedVersionRecord } from '../../src/modules/datasets/index.ts';
import type { ShardSource } from '../engine/data/opened-shard.ts';
import type { TaskContext } from './task.ts';

/**
 * A shard is fetched and verified as a whole before any image is read from it, because a run must not use bytes that
 * have changed: when its images are needed, not before the first step, so that a large dataset starts as fast as a small
 * one.
 */
export function shardSourcesOf(context: TaskContext, version: Pick<SealedVersionRecord, 'shards'>): ShardSource[] {
  return version.shards.map(({ sha256, imageCount }) => ({
    imageCount,
    open: async () => {
      context.throwIfStopped();
      const { path, release } = await context.localFile(sha256);
      return { path, places: null, release };
    },
  }));
}
