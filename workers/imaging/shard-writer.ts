/**
 * WebDataset shards: plain tar files in which `{key}.{ext}` is next to `{key}.json`. Headers hold nothing of the
 * machine or the hour, so that the same images make the same bytes.
 */
import { PassThrough } from 'node:stream';
import { once } from 'node:events';
import type { ArtifactStore, StoredBytes } from '../../src/platform/artifact-store.ts';

const BLOCK_BYTES = 512;
/** Bytes on their way to the store; more makes the writer wait. */
const BUFFER_BYTES = 8 * 1024 * 1024;
/** Small images are handed over together: each hand-over costs as much as hashing a hundred kilobytes. */
const CHUNK_BYTES = 1024 * 1024;

export interface ShardLimits {
  readonly byteLimit: number;
  readonly imageLimit: number;
}
/** Large enough to be read in one sweep, small enough to be moved about. */
export const SHARD_LIMITS: ShardLimits = { byteLimit: 256 * 1024 * 1024, imageLimit: 10_000 };

export interface StoredShard extends StoredBytes {
  readonly imageCount: number;
}

export interface ShardWriter {
  /** Writes an image and its facts into the current shard, or the next where it is full. Answers the shard's index. */
  write(key: string, extension: string, bytes: Buffer, facts: Readonly<Record<string, string | null>>): Promise<number>;
  /** Ends the last shard. */
  finish(): Promise<StoredShard[]>;
  /**
   * Gives up the open shard; nothing of it stays in the store. Shards that are stored already stay: they are whole, and
   * may be another version's too.
   */
  abandon(): Promise<void>;
}

interface OpenShard {
  readonly stream: PassThrough;
  readonly stored: Promise<StoredBytes>;
  /** Members that wait to be handed over. */
  waiting: Buffer[];
  waitingBytes: number;
  byteSize: number;
  imageCount: number;
}

export function createShardWriter(
  artifacts: Pick<ArtifactStore, 'put'>,
  limits: ShardLimits = SHARD_LIMITS,
): ShardWriter {
  const shards: StoredShard[] = [];
  let current: OpenShard | undefined;

  const begin = (): OpenShard => {
    const stream = new PassThrough({ highWaterMark: BUFFER_BYTES });
    const stored = artifacts.put(stream);
    // A failing store ends the stream with its error, which the next write meets.
    stored.catch((error: unknown) => stream.destroy(error instanceof Error ? error : new Error(String(error))));
    stream.on('error', () => undefined);
    return { stream, stored, waiting: [], waitingBytes: 0, byteSize: 0, imageCount: 0 };
  };
  const handOver = async (shard: OpenShard): Promise<void> => {
    const chunk = Buffer.concat(shard.waiting);
    shard.waiting = [];
    shard.waitingBytes = 0;
    if (shard.stream.destroyed) throw shard.stream.errored ?? new Error('The artifact store stopped reading.');
    // once() rejects when the stream fails, so that a full disk is not waited for.
    if (!shard.stream.write(chunk)) await once(shard.stream, 'drain');
  };
  const push = async (shard: OpenShard, bytes: Buffer): Promise<void> => {
    shard.byteSize += bytes.length;
    shard.waiting.push(bytes);
    shard.waitingBytes += bytes.length;
    if (shard.waitingBytes >= CHUNK_BYTES) await handOver(shard);
  };
  const end = async (shard: OpenShard): Promise<void> => {
    await handOver(shard);
    shard.stream.end(Buffer.alloc(2 * BLOCK_BYTES));
    shards.push({ ...(await shard.stored), imageCount: shard.imageCount });
  };

  return {
    write: async (key, extension, bytes, facts) => {
      if (current !== undefined && (current.byteSize >= limits.byteLimit || current.imageCount >= limits.imageLimit)) {
        await end(current);
        current = undefined;
      }
      current ??= begin();
      const sidecar = Buffer.from(JSON.stringify(facts), 'utf8');
      current.imageCount += 1;
      await push(current, tarMember(`${key}.${extension}`, bytes));
      await push(current, tarMember(`${key}.json`, sidecar));
      return shards.length;
    },
    finish: async () => {
      if (current !== undefined) await end(current);
      current = undefined;
      return shards;
    },
    abandon: async () => {
      const shard = current;
      current = undefined;
      if (shard === undefined) return;
      shard.stream.destroy(new Error('The import was given up.'));
      await shard.stored.catch(() => undefined);
    },
  };
}

/** A ustar member: mode 0644, owner 0, time 0; padded to whole blocks. */
function tarMember(name: string, bytes: Buffer): Buffer {
  const member = Buffer.alloc(BLOCK_BYTES + Math.ceil(bytes.length / BLOCK_BYTES) * BLOCK_BYTES);
  member.write(name, 0, 100, 'latin1');
  member.write('0000644\0' + '0000000\0' + '0000000\0', 100, 'latin1');
  member.write(`${bytes.length.toString(8).padStart(11, '0')}\0${'0'.repeat(11)}\0`, 124, 'latin1');
  member.write('        0', 148, 'latin1');
  member.write('ustar\x0000', 257, 'latin1');
  let checksum = 0;
  for (let index = 0; index < BLOCK_BYTES; index += 1) checksum += member[index] ?? 0;
  member.write(`${checksum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  bytes.copy(member, BLOCK_BYTES);
  return member;
}
