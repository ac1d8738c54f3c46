/**
 * WebDataset shards: plain tar files in which `{key}.{ext}` is next to `{key}.json`. Headers contain nothing about the
 * machine or the time, so that the same images give the same bytes.
 */
import { pack, type Pack } from 'tar-stream';
import type { ArtifactStore, StoredBytes } from '../../src/platform/artifact-store/index.ts';

const BLOCK_BYTES = 512;
/** Two empty blocks end an archive. */
const END_BYTES = 2 * BLOCK_BYTES;
/** Of one write to the store, at least where small members follow one another. */
const PIECE_BYTES = 256 * 1024;
const MEMBER = { mode: 0o644, uid: 0, gid: 0, mtime: new Date(0), type: 'file' } as const;

export interface ShardLimits {
  readonly byteLimit: number;
  readonly imageLimit: number;
}

/** Large enough for sequential reading, small enough to be moved. */
export const SHARD_LIMITS: ShardLimits = { byteLimit: 256 * 1024 * 1024, imageLimit: 10_000 };

export interface StoredShard extends StoredBytes {
  readonly imageCount: number;
}

export interface ShardPlace {
  /** Index of the shard. */
  readonly shard: number;
  /** Of the encoded image within the shard. */
  readonly byteOffset: number;
}

export interface ShardWriter {
  /** The sealed ones, those of an earlier attempt among them. */
  readonly sealed: readonly StoredShard[];
  /**
   * Writes an image and its facts into the current shard, or into the next one if that is full. Returns where the image
   * lies.
   */
  write(
    key: string,
    extension: string,
    bytes: Buffer,
    facts: Readonly<Record<string, string | null>>,
  ): Promise<ShardPlace>;
  /**
   * As `write`, for an image that an earlier attempt has packed into a shard that is sealed.
   * @throws SealedShardError if no such shard holds it.
   */
  skip(
    key: string,
    extension: string,
    byteLength: number,
    facts: Readonly<Record<string, string | null>>,
  ): Promise<ShardPlace>;
  /** Finishes the last shard. */
  finish(): Promise<StoredShard[]>;
  /**
   * Abandons the open shard, of which nothing stays in the store. Shards that are already stored stay: they are
   * complete, and may belong to another version too.
   */
  abandon(): Promise<void>;
}

/** A sealed shard does not hold the images that it should. */
export class SealedShardError extends Error {
  override readonly name = 'SealedShardError';
}

interface OpenShard {
  /** Null for a shard that is sealed: nothing is written, and only the places of its images are computed. */
  readonly archive: Pack | null;
  readonly stored: Promise<StoredBytes>;
  byteSize: number;
  imageCount: number;
}

/** @param earlier the shards that an earlier attempt has sealed; the first images lie in them. */
export function createShardWriter(
  artifacts: Pick<ArtifactStore, 'put'>,
  limits: ShardLimits = SHARD_LIMITS,
  earlier: readonly StoredShard[] = [],
): ShardWriter {
  const shards: StoredShard[] = [];
  let current: OpenShard | undefined;

  const begin = (): OpenShard => {
    const sealed = earlier[shards.length];
    if (sealed !== undefined) return { archive: null, stored: Promise.resolve(sealed), byteSize: 0, imageCount: 0 };
    const archive = pack();
    const stored = artifacts.put(bytesOf(archive));
    // If the store fails, the archive ends with its error, and the next write throws it.
    stored.catch((error: unknown) => archive.destroy(error instanceof Error ? error : new Error(String(error))));
    archive.on('error', () => undefined);
    return { archive, stored, byteSize: 0, imageCount: 0 };
  };
  const add = async ({ archive, stored }: OpenShard, name: string, bytes: Buffer): Promise<void> => {
    if (archive === null) return;
    try {
      await new Promise<void>((resolve, reject) => {
        const member = archive.entry({ ...MEMBER, name }, bytes, (error) => {
          if (error == null) resolve();
          else reject(error);
        });
        // The member reports the end of its archive too; without a listener that would end the process.
        member.on('error', reject);
      });
    } catch (error) {
      // The archive reports only that it was destroyed; the store reports why.
      await stored;
      throw error;
    }
  };
  const end = async (shard: OpenShard): Promise<void> => {
    shard.archive?.finalize();
    const { sha256, byteSize } = await shard.stored;
    const sealed = earlier[shards.length];
    if (sealed !== undefined && (shard.imageCount !== sealed.imageCount || shard.byteSize + END_BYTES !== byteSize))
      throw new SealedShardError('A sealed shard holds other images than the files give.');
    shards.push({ sha256, byteSize, imageCount: shard.imageCount });
  };
  /** @param bytes null for an image that lies in a sealed shard. */
  const place = async (
    name: string,
    extension: string,
    { byteLength, bytes }: { readonly byteLength: number; readonly bytes: Buffer | null },
    facts: Readonly<Record<string, string | null>>,
  ): Promise<ShardPlace> => {
    if (current !== undefined && (current.byteSize >= limits.byteLimit || current.imageCount >= limits.imageLimit)) {
      await end(current);
      current = undefined;
    }
    current ??= begin();
    const sidecar = Buffer.from(JSON.stringify(facts), 'utf8');
    current.imageCount += 1;
    // The header of a member is one block: keys are short enough for it.
    const byteOffset = current.byteSize + BLOCK_BYTES;
    if (bytes !== null) await add(current, `${name}.${extension}`, bytes);
    else if (current.archive !== null) throw new SealedShardError('No sealed shard holds the image.');
    await add(current, `${name}.json`, sidecar);
    current.byteSize += 2 * BLOCK_BYTES + inBlocks(byteLength) + inBlocks(sidecar.length);
    return { shard: shards.length, byteOffset };
  };

  return {
    sealed: shards,
    write: (key, extension, bytes, facts) => place(key, extension, { byteLength: bytes.length, bytes }, facts),
    skip: (key, extension, byteLength, facts) => place(key, extension, { byteLength, bytes: null }, facts),
    finish: async () => {
      if (current !== undefined) await end(current);
      current = undefined;
      return shards;
    },
    abandon: async () => {
      const shard = current;
      current = undefined;
      if (shard === undefined) return;
      shard.archive?.destroy(new Error('The import was abandoned.'));
      await shard.stored.catch(() => undefined);
    },
  };
}

function inBlocks(byteLength: number): number {
  return Math.ceil(byteLength / BLOCK_BYTES) * BLOCK_BYTES;
}

/**
 * The archive in pieces of some size: it yields header, image and padding by themselves, and the store would write each
 * of these few hundred bytes to the disk by itself. A large image is passed on as it is, because its copy would be as
 * much garbage again as the image.
 */
async function* bytesOf(archive: AsyncIterable<unknown>): AsyncGenerator<Uint8Array> {
  let waiting: Uint8Array[] = [];
  let waitingBytes = 0;
  for await (const chunk of archive) {
    // The types of tar-stream do not state that it yields bytes.
    if (!(chunk instanceof Uint8Array)) throw new TypeError('The archive yielded something other than bytes.');
    const isLarge = chunk.length >= PIECE_BYTES;
    if (!isLarge) {
      waiting.push(chunk);
      waitingBytes += chunk.length;
    }
    if (waitingBytes > 0 && (isLarge || waitingBytes >= PIECE_BYTES)) {
      yield Buffer.concat(waiting, waitingBytes);
      waiting = [];
      waitingBytes = 0;
    }
    if (isLarge) yield chunk;
  }
  if (waitingBytes > 0) yield Buffer.concat(waiting, waitingBytes);
}
