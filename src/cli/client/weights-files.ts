/** The bytes of weights on this machine: a file, or shards as the one file that they are parts of. */
import { openAsBlob } from 'node:fs';
import { open, readdir, readFile, stat, type FileHandle } from 'node:fs/promises';
import path from 'node:path';
import { accessFile } from '../../formats/random-access.ts';
import { mergedShards, SHARD_INDEX_ENDING, shardNamesOf } from '../../formats/sharded-safetensors.ts';
import { CommandFailure, EXIT } from '../exit-codes.ts';

/**
 * @param source a file; the index of shards beside it, or the folder that holds both.
 * @returns bytes that are read from the disk when they are sent.
 * @throws CommandFailure INVALID_ARGUMENTS for a path that does not exist, and for an index that cannot be read.
 */
export async function weightsToUpload(source: string): Promise<{ readonly name: string; readonly blob: Blob }> {
  const found = await stat(source).catch(() => {
    throw invalid(`The file ${source} does not exist.`);
  });
  const file = found.isDirectory() ? await indexIn(source) : source;
  const name = path.basename(file);
  if (!file.endsWith(SHARD_INDEX_ENDING)) return { name, blob: await openAsBlob(file) };
  try {
    const shards = shardNamesOf(await readFile(file, 'utf8')).map((each) => path.join(path.dirname(file), each));
    return { name: name.slice(0, -'.index.json'.length), blob: await mergedBlob(shards) };
  } catch (error) {
    throw invalid(error instanceof Error ? error.message : String(error));
  }
}

async function indexIn(folder: string): Promise<string> {
  const [index, second] = (await readdir(folder)).filter((name) => name.endsWith(SHARD_INDEX_ENDING));
  if (index !== undefined && second === undefined) return path.join(folder, index);
  throw invalid(
    index === undefined
      ? `The folder ${folder} has no index of shards (*${SHARD_INDEX_ENDING}).`
      : `The folder ${folder} has more than one index of shards (*${SHARD_INDEX_ENDING}).`,
  );
}

async function mergedBlob(shards: readonly string[]): Promise<Blob> {
  const handles: FileHandle[] = [];
  try {
    for (const shard of shards) handles.push(await open(shard));
    const sources = await Promise.all(handles.map(async (handle) => accessFile(handle, (await handle.stat()).size)));
    const { beginning, dataStarts } = await mergedShards(sources);
    const blobs = await Promise.all(shards.map((shard) => openAsBlob(shard)));
    return new Blob([beginning, ...blobs.map((blob, index) => blob.slice(dataStarts[index]))]);
  } finally {
    for (const handle of handles) await handle.close();
  }
}

function invalid(message: string): CommandFailure {
  return new CommandFailure({
    exitCode: EXIT.INVALID_ARGUMENTS,
    message,
    hint: 'Give a file of weights, the index of its shards, or their folder.',
  });
}
