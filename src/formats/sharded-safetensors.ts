/**
 * Weights in several safetensors files, as Hugging Face's libraries save large networks: the shards, and an index that
 * names the shard of each tensor (`model.safetensors.index.json`). They are read as the one file that holds the same.
 */
import { z } from 'zod';
import type { RandomAccess } from './random-access.ts';
import { placesInSafetensors, SafetensorsError, safetensorsBeginning } from './safetensors.ts';

/** As the libraries name it; the beginning is any. */
export const SHARD_INDEX_ENDING = '.safetensors.index.json';
/** An index has some hundred bytes for each tensor. */
export const MAX_SHARD_INDEX_BYTES = 16 * 1024 * 1024;
/** The largest networks that are published in shards have fewer; each is an open file. */
const MAX_SHARDS = 200;

/** Fields that are not needed, such as the total size, are left out. */
const indexSchema = z.object({ weight_map: z.record(z.string(), z.string()) });

/**
 * The names of the shards' files, sorted: the order in which they are merged. They are plain names, for files beside
 * the index.
 * @throws SafetensorsError SHARD_INDEX_INVALID.
 */
export function shardNamesOf(index: string): readonly string[] {
  const invalid = (message: string, options?: ErrorOptions): SafetensorsError =>
    new SafetensorsError('SHARD_INDEX_INVALID', message, options);
  let json: unknown;
  try {
    json = JSON.parse(index);
  } catch (cause) {
    throw invalid('The index of the shards is not JSON.', { cause });
  }
  const parsed = indexSchema.safeParse(json);
  if (!parsed.success) throw invalid('The index of the shards has no "weight_map" from tensors to files.');
  const names = [...new Set(Object.values(parsed.data.weight_map))].sort();
  if (names.length === 0 || names.length > MAX_SHARDS)
    throw invalid(`The index names ${names.length} shards; 1 to ${MAX_SHARDS} are read.`);
  const wrong = names.find((name) => !/^[^/\\\0]+\.safetensors$/.test(name));
  if (wrong !== undefined)
    throw invalid(`The index names ${JSON.stringify(wrong.slice(0, 100))}, which is not a safetensors file beside it.`);
  return names;
}

/** Shards as one file. */
export interface MergedShards extends RandomAccess {
  /** What the file has before the shards' data. */
  readonly beginning: Uint8Array<ArrayBuffer>;
  /** Where the data of each shard begin, which go up to its end. */
  readonly dataStarts: readonly number[];
}

/**
 * The shards as one safetensors file, whose bytes depend on the shards and their order alone. Only the headers are read
 * now; everything else is read from the shards when it is needed.
 * @throws SafetensorsError with the first fault of a shard, or DUPLICATE_KEY for a tensor that two shards have.
 */
export async function mergedShards(shards: readonly RandomAccess[]): Promise<MergedShards> {
  const entries: string[] = [];
  const seen = new Set<string>();
  const metadata: Record<string, string> = {};
  const parts: { readonly source: RandomAccess; readonly first: number; readonly byteSize: number }[] = [];
  let dataBytes = 0;
  for (const source of shards) {
    const found = await placesInSafetensors(source);
    Object.assign(metadata, found.metadata);
    const first = found.places[0]?.begin ?? source.byteSize;
    for (const { name, dtype, shape, begin, end } of found.places) {
      if (seen.has(name))
        throw new SafetensorsError('DUPLICATE_KEY', `Two shards have a tensor named ${JSON.stringify(name)}.`);
      seen.add(name);
      const offsets = [dataBytes + begin - first, dataBytes + end - first];
      entries.push(`${JSON.stringify(name)}:${JSON.stringify({ dtype, shape, data_offsets: offsets })}`);
    }
    parts.push({ source, first, byteSize: source.byteSize - first });
    dataBytes += source.byteSize - first;
  }
  const beginning = safetensorsBeginning(entries, metadata);
  return {
    beginning,
    dataStarts: parts.map(({ first }) => first),
    byteSize: beginning.length + dataBytes,
    read: async (offset, length, into = new Uint8Array(length)) => {
      const written = beginning.subarray(offset, offset + length);
      into.set(written);
      let filled = written.length;
      let start = beginning.length;
      for (const { source, first, byteSize } of parts) {
        const at = offset + filled - start;
        if (filled < length && at >= 0 && at < byteSize) {
          const count = Math.min(length - filled, byteSize - at);
          const bytes = await source.read(first + at, count, into.subarray(filled, filled + count));
          filled += bytes.length;
          if (bytes.length < count) break;
        }
        start += byteSize;
      }
      return filled === length ? into : into.slice(0, filled);
    },
  };
}
