/**
 * Blocks of an import: what it has learnt of consecutive files, stored each time a shard is sealed, so that the next
 * attempt takes the sealed shards as they are and reads on behind them.
 *
 * A block holds facts, not decisions: for each file its size and time, and what decoding it gave, without the encoded
 * images, which lie in the shards. The next attempt makes the same decisions (duplicates, conflicts, thumbnails,
 * issues) again from the facts and from its own listing of the folder. So a block that is used can only save time, and
 * nothing has to be kept of the memory of an import.
 *
 * Its bytes are gzip of lines of JSON: the head, then one line for each file. Each head names the block before it, so
 * that a block that followed another one is never used.
 */
import { createHash } from 'node:crypto';
import { promisify } from 'node:util';
import { gunzip, gzip } from 'node:zlib';
import { z } from 'zod';
import { DomainError } from '../../src/errors.ts';
import type { ArtifactStore } from '../../src/platform/artifact-store/index.ts';
import type { OpenFolder } from '../../src/platform/open-folder.ts';
import type { SourceImage, SourceList } from './listing.ts';
import { fileOf, lineOf, type ReadFile } from './read-file.ts';
import type { StoredShard } from './shard-writer.ts';
import type { ImportBlockRecord, NewImportBlock } from '../../src/protocol/import.ts';

/** Where an import keeps its blocks. */
export interface BlockStore {
  /** Those of earlier attempts, in the order of their positions. */
  readonly kept: readonly ImportBlockRecord[];
  /** Registers a block whose bytes are stored; it replaces the one at its position and all after it. */
  keep(block: NewImportBlock): Promise<void>;
}

/** What a block cannot be used for: the import starts again without any. */
export class BlocksDisagreeError extends Error {
  override readonly name = 'BlocksDisagreeError';
}

const FORMAT = 'paraffin import block 1';
/** The largest one holds the patches of a few images of 16,384 x 16,384 px. */
const BLOCK_BYTES_MAX = 1024 ** 3;
/** In a pass that will be repeated no shard is sealed; this many files make a block. */
const FILES_WITHOUT_SHARD = 10_000;
/** Files whose facts are read at once. */
const FILES_AT_ONCE = 64;

const count = z.int().min(0);
const sha256 = z.hex().length(64);
const headSchema = z.strictObject({
  format: z.literal(FORMAT),
  /** Digest of the options that decide what a file becomes. */
  options: sha256,
  pass: z.union([z.literal(1), z.literal(2)]),
  /** The sha256 of the block before; null for the first one. */
  previous: sha256.nullable(),
  firstFile: count,
  fileCount: count,
  /** Digest of the names, labels, groups and splits of the files. */
  sources: sha256,
  shard: z.strictObject({ sha256, byteSize: count, imageCount: count }).nullable(),
  /** The line of the file after these, if the shard holds some of its patches; it must be read again for the others. */
  partOf: z.string().nullable(),
});
type Head = z.infer<typeof headSchema>;

/** The order of the files is part of it, because their lines have no names; and the patches of a slide are. */
function digestOfSources(sources: Iterable<SourceImage>): string {
  const hash = createHash('sha256');
  for (const { relativePath, label, group, split, slide } of sources)
    hash.update(`${JSON.stringify([relativePath, label, group, split, ...(slide === undefined ? [] : [slide])])}\n`);
  return hash.digest('hex');
}

/** A block that agrees with the folder. */
export interface UsableBlock {
  readonly sha256: string;
  readonly head: Head;
}

export interface Usable {
  /** Consecutive ones from the first on. */
  readonly blocks: readonly UsableBlock[];
  /** A sentence that says why a later one cannot be used; null if all can be. */
  readonly fault: string | null;
}

export interface BlockOptions {
  readonly artifacts: Pick<ArtifactStore, 'put' | 'read' | 'stat'>;
  readonly folder: OpenFolder;
  readonly sources: SourceList;
  /** What decides how a file is prepared and packed: blocks of other options are not used. */
  readonly decisive: Readonly<Record<string, unknown>>;
  /** Called between files; an error that it throws ends the check. */
  readonly throwIfStopped?: (() => void) | undefined;
}

/**
 * Finds the blocks that the import can continue behind: those from the first on whose bytes are whole, whose options
 * and files are those of this attempt, whose files have the size and time that they had, and whose shard is stored. It
 * reads the facts of every file of these blocks, and decodes none.
 */
export async function usableBlocks(kept: readonly ImportBlockRecord[], options: BlockOptions): Promise<Usable> {
  const blocks: UsableBlock[] = [];
  let partOf: string | null = null;
  for (const [position, record] of kept.entries()) {
    const block = await readBlock(options.artifacts, record.sha256);
    if (block === undefined) return { blocks, fault: 'what the earlier attempt kept is damaged' };
    const { head, lines, files } = block;
    const before = blocks.at(-1);
    const fault =
      faultOfHead(record, position, head, before, options) ??
      (partOf !== null && partOf !== (lines[0] ?? head.partOf) ? 'what the earlier attempt kept is damaged' : null) ??
      (await faultOfShard(head, options.artifacts)) ??
      (await faultOfFiles(head.firstFile, files, options));
    if (fault !== null) return { blocks, fault };
    blocks.push({ sha256: record.sha256, head });
    partOf = head.partOf;
  }
  return { blocks, fault: null };
}

function faultOfHead(
  record: ImportBlockRecord,
  position: number,
  head: Head,
  before: UsableBlock | undefined,
  { sources, decisive }: BlockOptions,
): string | null {
  const end = before === undefined ? 0 : before.head.firstFile + before.head.fileCount;
  const isNextPass = before !== undefined && head.pass === before.head.pass + 1 && end === sources.length;
  const isFollowing =
    record.position === position &&
    record.shardSha256 === (head.shard?.sha256 ?? null) &&
    head.previous === (before?.sha256 ?? null) &&
    (isNextPass ? head.firstFile === 0 : head.pass === (before?.head.pass ?? 1) && head.firstFile === end);
  if (!isFollowing) return 'what the earlier attempt kept is damaged';
  if (head.options !== digestOfOptions(decisive)) return 'the program packs images in another way than before';
  if (head.firstFile + head.fileCount + (head.partOf === null ? 0 : 1) > sources.length) return FILES_DIFFER;
  const files = sources.slice(head.firstFile, head.firstFile + head.fileCount);
  return head.sources === digestOfSources(files) ? null : FILES_DIFFER;
}

const FILES_DIFFER = 'the folder has other files, or other labels, groups or splits, than before';

async function faultOfShard({ shard }: Head, artifacts: BlockOptions['artifacts']): Promise<string | null> {
  if (shard === null) return null;
  const stored = await artifacts.stat(shard.sha256);
  return stored?.byteSize === shard.byteSize ? null : 'a shard that was sealed before is missing or damaged';
}

/** @param files consecutive ones from `firstFile` on, as they were. */
async function faultOfFiles(
  firstFile: number,
  files: readonly ReadFile[],
  { folder, sources, throwIfStopped }: BlockOptions,
): Promise<string | null> {
  for (let start = 0; start < files.length; start += FILES_AT_ONCE) {
    throwIfStopped?.();
    const group = files.slice(start, start + FILES_AT_ONCE);
    const paths = Array.from(
      sources.slice(firstFile + start, firstFile + start + group.length),
      ({ relativePath }) => relativePath,
    );
    const now = await Promise.all(paths.map((relativePath) => folder.factsOf(relativePath)));
    for (const [index, { facts }] of group.entries()) {
      const found = now[index] ?? null;
      if (found?.byteSize !== facts?.byteSize || found?.modifiedAtMs !== facts?.modifiedAtMs)
        return `the file ${JSON.stringify(paths[index])} has changed since then`;
    }
  }
  return null;
}

function digestOfOptions(decisive: Readonly<Record<string, unknown>>): string {
  return createHash('sha256').update(JSON.stringify(decisive)).digest('hex');
}

interface Block {
  readonly head: Head;
  /** As `lineOf` writes them. */
  readonly lines: readonly string[];
  /** Those of the lines, and then that of `partOf` if there is one. */
  readonly files: readonly ReadFile[];
}

/** Undefined for bytes that are missing or wrong. */
async function readBlock(artifacts: Pick<ArtifactStore, 'read'>, digest: string): Promise<Block | undefined> {
  try {
    const text = await promisify(gunzip)(await artifacts.read(digest), { maxOutputLength: BLOCK_BYTES_MAX });
    const [first = '', ...lines] = text.toString('utf8').split('\n');
    const head = headSchema.parse(JSON.parse(first));
    const files = [...lines, ...(head.partOf === null ? [] : [head.partOf])].map(fileOf);
    return lines.length === head.fileCount ? { head, lines, files } : undefined;
  } catch (error) {
    if (isDamage(error)) return undefined;
    throw error;
  }
}

/** Anything else, such as a bucket that does not answer, may be over at the next attempt. */
export function isDamage(error: unknown): boolean {
  if (error instanceof DomainError) return error.code === 'ARTIFACT_NOT_FOUND' || error.code === 'ARTIFACT_CORRUPT';
  const isOfGzip =
    error instanceof Error &&
    'code' in error &&
    /^(Z_|ERR_BUFFER_TOO_LARGE|ERR_STRING_TOO_LONG)/.test(String(error.code));
  return isOfGzip || error instanceof SyntaxError || error instanceof z.ZodError;
}

/** The files of these blocks, in order. @throws BlocksDisagreeError for bytes that have gone since the check. */
export async function* filesOfBlocks(
  artifacts: Pick<ArtifactStore, 'read'>,
  blocks: readonly UsableBlock[],
): AsyncGenerator<ReadFile> {
  for (const { sha256: digest } of blocks) {
    const block = await readBlock(artifacts, digest);
    if (block === undefined) throw new BlocksDisagreeError('A block has gone since it was checked.');
    yield* block.files.slice(0, block.head.fileCount);
  }
}

/** What the import has packed when a file was read. */
export interface PackedSoFar {
  /** The share of the files, 0..1. */
  readonly fraction: number;
  readonly imageCount: number;
  /** Images of this pass before the file. */
  readonly imageCountBefore: number;
  /** All sealed shards of the pass. */
  readonly shards: readonly StoredShard[];
  /** Whether the pass will be repeated: it seals no more shards. */
  readonly isRepeated: boolean;
}

/** Stores the blocks of one attempt, behind those that it continues. */
export interface BlockWriter {
  /** @param used the blocks of this pass behind which it continues. */
  startPass(pass: 1 | 2, used: readonly UsableBlock[]): void;
  /**
   * Called for each file that is read, in order, after its images were packed.
   * @throws BlocksDisagreeError if the file gave other images than those that lie in a sealed shard.
   */
  add(file: ReadFile, packed: PackedSoFar): Promise<void>;
  /** Called at the end of a pass that will be repeated, so that the next attempt does not read its files again. */
  finishRepeatedPass(packed: PackedSoFar): Promise<void>;
}

/** @param last the block behind which the attempt continues, and its position; null if it starts at the first file. */
export function createBlockWriter(
  keep: BlockStore['keep'],
  { artifacts, sources, decisive }: Pick<BlockOptions, 'artifacts' | 'sources' | 'decisive'>,
  last: { readonly block: UsableBlock; readonly position: number } | null,
): BlockWriter {
  let position = last === null ? 0 : last.position + 1;
  let previous = last?.block.sha256 ?? null;
  let pass: 1 | 2 = 1;
  let firstFile = 0;
  /** Shards that have a block, and the images in them. */
  let sealedCount = 0;
  let sealedImageCount = 0;
  let partOf: string | null = null;
  let lines: string[] = [];

  const store = async (shard: StoredShard | null, partLine: string | null, packed: PackedSoFar): Promise<void> => {
    const files = sources.slice(firstFile, firstFile + lines.length);
    const head: Head = {
      format: FORMAT,
      options: digestOfOptions(decisive),
      ...{ pass, previous, firstFile },
      fileCount: lines.length,
      sources: digestOfSources(files),
      ...{ shard, partOf: partLine },
    };
    const bytes = await promisify(gzip)([JSON.stringify(head), ...lines].join('\n'), { level: 1 });
    const facts = await artifacts.put(bytes);
    await keep({ position, facts, shard, progress: packed.fraction, imageCount: packed.imageCount });
    position += 1;
    previous = facts.sha256;
    firstFile += lines.length;
    lines = [];
  };

  return {
    startPass: (number, used) => {
      const end = used.at(-1)?.head;
      pass = number;
      firstFile = end === undefined ? 0 : end.firstFile + end.fileCount;
      const sealed = used.flatMap(({ head }) => head.shard ?? []);
      sealedCount = sealed.length;
      sealedImageCount = sealed.reduce((sum, { imageCount }) => sum + imageCount, 0);
      partOf = end?.partOf ?? null;
      lines = [];
    },
    add: async (file, packed) => {
      const line = lineOf(file);
      if (partOf !== null && partOf !== line)
        throw new BlocksDisagreeError('A file whose patches lie in a sealed shard gave others.');
      partOf = null;
      for (const shard of packed.shards.slice(sealedCount)) {
        sealedCount += 1;
        sealedImageCount += shard.imageCount;
        await store(shard, sealedImageCount > packed.imageCountBefore ? line : null, packed);
      }
      lines.push(line);
      if (packed.isRepeated && lines.length >= FILES_WITHOUT_SHARD) await store(null, null, packed);
    },
    finishRepeatedPass: async (packed) => {
      if (lines.length > 0) await store(null, null, packed);
    },
  };
}
