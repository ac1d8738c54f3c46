/**
 * Turns a folder of images into a sealed set: shards, a manifest, thumbnails, and a list of all issues. Uses no
 * database. The result depends only on the names and bytes of the files: the same folder gives the same digest on any
 * day and disk.
 */
import { mkdir, mkdtemp } from 'node:fs/promises';
import path from 'node:path';
import type { ArtifactStore, StoredBytes } from '../../src/platform/artifact-store/index.ts';
import type { Finding } from './formats/image-header.ts';
import { createConflicts, type Conflicts } from './conflicts.ts';
import { createContentCounts, type ContentCounts, type LabelCount, type PreviousVersion } from './content.ts';
import { createDiscardingStore } from './discarding-store.ts';
import type { PreparedImage } from './decoder/prepare.ts';
import { createDuplicates } from './duplicates.ts';
import {
  BlocksDisagreeError,
  createBlockWriter,
  filesOfBlocks,
  usableBlocks,
  type BlockStore,
  type BlockWriter,
  type PackedSoFar,
  type UsableBlock,
} from './import-blocks.ts';
import { mapInOrder, type HeldResources } from './in-order.ts';
import { createIssueLog, type ImportIssue, type IssueLog } from './issues.ts';
import { firstOfEachLabel, type SourceImage } from './listing.ts';
import { createManifestFile, type ManifestFile } from './manifest-writer.ts';
import { planImport, type ImportPlan, type LayoutOptions } from './plan-import.ts';
import {
  DECODING_BYTES,
  examineImage,
  mayBeKept,
  readingLimitsOf,
  readSource,
  type MemoryKind,
  type ReadingOptions,
} from './read-source.ts';
import type { PackedImage, ReadFile } from './read-file.ts';
import { addContentIssues, needsAnswer, nothingReadable, questionsOf, reportOf } from './report.ts';
import {
  createShardWriter,
  SealedShardError,
  SHARD_LIMITS,
  type ShardLimits,
  type ShardPlace,
  type ShardWriter,
  type StoredShard,
} from './shard-writer.ts';
import { createPictureFolder, storeSlides } from './slides/imported-slides.ts';
import { slideColumnsOf } from './slides/read-batch.ts';
import { shareSlides, type PartStore, type SharedSlides } from './slides/shared-slides.ts';
import { createThumbnailPicker, storeThumbnails, type PickedImage, type StoredThumbnail } from './thumbnails.ts';
import type { ImportQuestion, ImportReportRecord } from '../../src/protocol/import.ts';
import type { ImportedSlide } from '../../src/protocol/imported-slide.ts';

export interface ImportOptions extends LayoutOptions, Omit<ReadingOptions, keyof LayoutOptions> {
  /** An image under two labels, splits or groups stays under both if true, otherwise under neither. */
  readonly keepConflicts?: boolean;
  /** Kinds of issues that look like mistakes and are intended. */
  readonly accept?: readonly ImportQuestion[];
  /** The version that the new one follows. */
  readonly previous?: PreviousVersion | null;
  /** Everything is read and checked, nothing is stored, and no question ends the import. */
  readonly isDryRun?: boolean;
  readonly artifacts: Pick<ArtifactStore, 'put' | 'open' | 'read' | 'stat'>;
  /** A private folder for temporary files; the caller removes it. */
  readonly workDir: string;
  readonly shardLimits?: ShardLimits;
  /** Called at least every half second while images are processed. An error that it throws ends the import. */
  readonly onProgress?: (progress: ImportProgress) => Promise<void>;
  /** Called once, before the import ends or is refused for its issues. */
  readonly onReport?: (report: ImportReportRecord) => Promise<void>;
  /** Where the import keeps what its next attempt needs; undefined: nothing is kept. A dry run keeps nothing. */
  readonly blocks?: BlockStore;
  /** Through which slides are shared with other workers; undefined: they are not. A dry run shares nothing. */
  readonly parts?: PartStore;
  /**
   * Called if an earlier attempt has kept blocks, before the first file that they do not cover is read; once more if
   * the import then has to start over.
   */
  readonly onContinue?: (continued: Continued) => Promise<void>;
  /** Called between images; an error that it throws ends the import. */
  readonly throwIfStopped?: () => void;
}

export interface Continued {
  /** Files and images that are not read again. */
  readonly filesDone: number;
  readonly imageCount: number;
  /** A clause that says why nothing more of the earlier attempt is used; null if all of it is. */
  readonly fault: string | null;
}

export interface ImportProgress {
  /** The share of the files, 0..1. */
  readonly fraction: number;
  /** 2 if the files are read again, because images under two labels were found among those already packed. */
  readonly pass: 1 | 2;
  readonly fileCount: number;
  readonly filesDone: number;
  readonly imageCount: number;
  /** Of source files; of a slide, the bytes of its patches. */
  readonly bytesRead: number;
  /** Slides that other workers have read, by the name of the worker. */
  readonly readBy: ReadonlyMap<string, number>;
}

export interface ImportResult {
  /** Of the version: see src/formats/manifest/version-digest.ts. */
  readonly digest: string;
  readonly manifest: StoredBytes;
  readonly imageCount: number;
  /** The total of all shards. */
  readonly byteSize: number;
  /** Sorted by code point. */
  readonly labelNames: readonly string[];
  readonly labelCounts: readonly LabelCount[];
  /** Known groups. */
  readonly groupCount: number;
  readonly ungroupedImageCount: number;
  readonly hasSplit: boolean;
  readonly issues: readonly ImportIssue[];
  /** CSV of every issue: see issues.ts. Null if there is none. */
  readonly issueList: StoredBytes | null;
  readonly shards: readonly StoredShard[];
  readonly thumbnails: readonly StoredThumbnail[];
  /** Of layout SLIDES, except for a dry run: every slide of the folder, by its path. */
  readonly slides: readonly ImportedSlide[];
  /** Of source files; of a slide, the bytes of its patches. */
  readonly bytesRead: number;
  /** Issues for which an import would be refused. Empty except for a dry run. */
  readonly questions: readonly ImportQuestion[];
}

const PROGRESS_EVERY_MS = 500;
/** Keys of equal length sort as numbers do. */
const KEY_DIGITS = 9;
const MEDIA_TYPES: Readonly<Record<PreparedImage['extension'], string>> = {
  jpg: 'image/jpeg',
  png: 'image/png',
  webp: 'image/webp',
};

/**
 * @throws DomainError IMPORT_FOLDER_EMPTY, IMPORT_NOTHING_READABLE, LABELS_CSV_INVALID, and IMPORT_NEEDS_ANSWER if
 * something looks like a mistake: by names before any image is read, or after all were read. A failed import leaves no
 * partial artifact behind.
 */
export async function importImages(options: ImportOptions): Promise<ImportResult> {
  const pictures = options.isDryRun === true ? null : createPictureFolder(path.join(options.workDir, 'slides'));
  const examine = async (relativePath: string) => {
    options.throwIfStopped?.();
    return examineImage(options, relativePath);
  };
  const plan = await planImport(options, examine, pictures);
  const planned = createContentCounts();
  for (const source of firstOfEachLabel(plan.sources)) if (mayBeKept(source, options.layout)) planned.add(source);
  await refuseByNames(options, plan, planned);
  const decided = { plan, planned };
  const earlier = await earlierOf(options, plan);
  try {
    return await runPasses(options, decided, earlier);
  } catch (error) {
    const disagree = error instanceof BlocksDisagreeError || error instanceof SealedShardError;
    if (!disagree || earlier.blocks.length === 0) throw error;
    const fault = 'the files give other images than before';
    return await runPasses(options, decided, { blocks: [], fault, isFirstAttempt: false });
  }
}

/** What an earlier attempt has kept. */
interface Earlier {
  readonly blocks: readonly UsableBlock[];
  /** Why not all of it is used. */
  readonly fault: string | null;
  /** Whether nothing was kept. */
  readonly isFirstAttempt: boolean;
}

async function earlierOf(options: ImportOptions, plan: ImportPlan): Promise<Earlier> {
  const { blocks, isDryRun = false } = options;
  if (blocks === undefined || isDryRun || blocks.kept.length === 0)
    return { blocks: [], fault: null, isFirstAttempt: true };
  const usable = await usableBlocks(blocks.kept, blockOptionsOf(options, plan));
  return { ...usable, isFirstAttempt: false };
}

function blockOptionsOf(options: ImportOptions, { sources }: ImportPlan) {
  const { artifacts, folder, throwIfStopped, layout, patchSizePx, sampleBits = null, keepConflicts = false } = options;
  const { decodingBytes = DECODING_BYTES, shardLimits = SHARD_LIMITS } = options;
  const slides = options.slides?.options ?? null;
  const decisive = { layout, patchSizePx, sampleBits, keepConflicts, decodingBytes, shardLimits, slides };
  return { artifacts, folder, sources, decisive, throwIfStopped };
}

/** What the names of the files decide. */
interface Decided {
  readonly plan: ImportPlan;
  readonly planned: ContentCounts;
}

async function runPasses(options: ImportOptions, decided: Decided, earlier: Earlier): Promise<ImportResult> {
  const { blocks, isDryRun = false } = options;
  const last = earlier.blocks.at(-1);
  const writer =
    blocks === undefined || isDryRun
      ? null
      : createBlockWriter(
          blocks.keep,
          blockOptionsOf(options, decided.plan),
          last === undefined ? null : { block: last, position: earlier.blocks.length - 1 },
        );
  const first = await runPass(options, decided, { pass: 1, leftOut: createConflicts(), earlier, writer });
  if ('result' in first) return first.result;
  const second = await runPass(options, decided, { pass: 2, leftOut: first.conflicts, earlier, writer });
  if ('result' in second) return second.result;
  throw new Error('The second pass found conflicts that the first pass did not find.');
}

async function logIn(options: ImportOptions, name: string, plan: ImportPlan) {
  await mkdir(options.workDir, { recursive: true });
  const workDir = await mkdtemp(path.join(options.workDir, `${name}-`));
  const cutsPatches = options.patchSizePx !== null;
  const issues = createIssueLog({ cutsPatches, keepConflicts: options.keepConflicts === true, workDir });
  plan.issues.replay(issues);
  return { workDir, issues };
}

/** A question that the folder names already raise must not come after hours of decoding. */
async function refuseByNames(options: ImportOptions, plan: ImportPlan, planned: ContentCounts): Promise<void> {
  if (options.isDryRun === true || planned.imageCount === 0) return;
  const { issues } = await logIn(options, 'names', plan);
  addContentIssues(issues, planned, {
    isLabelled: plan.isLabelled,
    previous: options.previous ?? null,
    hasAllImages: options.patchSizePx === null,
  });
  if (questionsOf(issues.list(), options.accept ?? []).length === 0) return;
  await reportFindings(options, plan, planned, issues, false);
  throw needsAnswer(issues.list(), options.accept ?? []);
}

/** The list of all issues is stored even for a dry run and a refused import, which is when users read it. */
async function reportFindings(
  { isDryRun = false, accept = [], artifacts, onReport }: ImportOptions,
  plan: ImportPlan,
  counts: ContentCounts,
  issues: IssueLog,
  imagesChecked: boolean,
): Promise<ImportReportRecord> {
  const issueList = onReport === undefined ? null : await issues.store(artifacts);
  const report = reportOf(plan, counts, issues.list(), { isDryRun, imagesChecked, accept, issueList });
  await onReport?.(report);
  return report;
}

type PassOutcome = { readonly result: ImportResult } | { readonly conflicts: Conflicts };

interface Turn {
  readonly pass: 1 | 2;
  /** Conflicts that an earlier pass found; their images are in no version. */
  readonly leftOut: Conflicts;
  readonly earlier: Earlier;
  readonly writer: BlockWriter | null;
}

async function runPass(options: ImportOptions, decided: Decided, turn: Turn): Promise<PassOutcome> {
  const { workDir, issues } = await logIn(options, `pass-${turn.pass}`, decided.plan);
  const artifacts = options.isDryRun === true ? createDiscardingStore() : options.artifacts;
  const used = turn.earlier.blocks.filter(({ head }) => head.pass === turn.pass);
  const sealed = used.flatMap(({ head }) => head.shard ?? []);
  const shards = createShardWriter(artifacts, options.shardLimits ?? SHARD_LIMITS, sealed);
  const manifest = await createManifestFile(path.join(workDir, 'manifest.parquet'));
  try {
    return await pack(options, decided, { ...turn, used, issues, artifacts, shards, manifest });
  } finally {
    await shards.abandon();
    await manifest.abandon();
  }
}

interface Pass extends Turn {
  /** Blocks of this pass that are used. */
  readonly used: readonly UsableBlock[];
  readonly issues: IssueLog;
  /** A dry run stores nothing. */
  readonly artifacts: Pick<ArtifactStore, 'put'>;
  readonly shards: ShardWriter;
  readonly manifest: ManifestFile;
}

async function pack(options: ImportOptions, decided: Decided, turn: Pass): Promise<PassOutcome> {
  const { keepConflicts = false } = options;
  const { sources } = decided.plan;
  const { pass, leftOut, earlier, used, writer, issues, shards, manifest } = turn;
  const picker = createThumbnailPicker(sources);
  const picked: PickedImage[] = [];
  const duplicates = createDuplicates({ sources, leftOut, keepConflicts, issues });
  const { conflicts } = duplicates;
  const counts = createContentCounts();
  const patchCounts = new Map<string, number>();
  /** The earlier attempt has found that this pass must be repeated, so that its images lie in no shard. */
  const willBeRepeated = used.some(({ head }) => head.shard === null);
  let shared: SharedSlides | null = null;
  let filesDone = 0;
  let bytesRead = 0;
  let reportedAt = -Infinity;
  const ordinals = new Map<string | null, number>();
  const isRepeated = (): boolean => willBeRepeated || conflicts.size > 0;

  /** Where the image lies; undefined in a pass that will be repeated, where packing more images is useless. */
  const keep = async (image: PackedImage, source: SourceImage): Promise<ShardPlace | undefined> => {
    const key = String(counts.imageCount).padStart(KEY_DIGITS, '0');
    const facts = { label: source.label, group: source.group, split: source.split };
    counts.add(source);
    if (source.slide !== undefined)
      patchCounts.set(source.relativePath, (patchCounts.get(source.relativePath) ?? 0) + 1);
    if (isRepeated()) return undefined;
    const place = await (image.bytes === null
      ? shards.skip(key, image.extension, image.byteLength, facts)
      : shards.write(key, image.extension, image.bytes, facts));
    await manifest.write({
      key,
      pixelDigest: image.pixelDigest,
      perceptualHash: image.perceptualHash,
      ...facts,
      width: image.width,
      height: image.height,
      mediaType: MEDIA_TYPES[image.extension],
      ...place,
      byteLength: image.byteLength,
      sourcePath: source.relativePath,
      ...image.cutFrom,
      ...slideColumnsOf(source.relativePath, source.slide, image.cutFrom, options.slides?.options ?? null),
      sourceProfileSha256: image.profile?.sha256 ?? null,
      profileChangedPixels: image.profile?.changesPixels ?? null,
    });
    return place;
  };

  const addFinding = ({ issue, reason }: Finding, { relativePath }: SourceImage): void =>
    issues.add(issue, relativePath, reason === undefined ? {} : { reason });

  const progressNow = (fraction: number): ImportProgress => ({
    ...{ fraction, pass, filesDone, bytesRead, readBy: shared?.readBy ?? new Map() },
    fileCount: sources.length,
    imageCount: counts.imageCount,
  });
  const packedSoFar = (imageCountBefore: number): PackedSoFar => ({
    ...{ fraction: filesDone / sources.length, imageCount: counts.imageCount, imageCountBefore },
    ...{ shards: shards.sealed, isRepeated: isRepeated() },
  });
  const take = async ({ byteSize, prepared }: ReadFile, source: SourceImage): Promise<void> => {
    const ordinal = ordinals.get(source.label) ?? 0;
    ordinals.set(source.label, ordinal + 1);
    if (prepared.outcome === 'REFUSED') {
      addFinding(prepared.finding, source);
    } else {
      for (const note of prepared.notes) addFinding(note, source);
      if (prepared.blankCount > 0) issues.add('NEARLY_BLANK', source.relativePath, { count: prepared.blankCount });
      const wanted = prepared.images.filter((image) => duplicates.isWanted(image, source, filesDone));
      const middle = wanted[wanted.length >> 1];
      for (const image of wanted) {
        if (image.nearlyBlank) issues.add('NEARLY_BLANK', source.relativePath);
        const place = await keep(image, source);
        if (image !== middle || middle.nearlyBlank || !picker.wants(source.label, ordinal)) continue;
        if (place !== undefined) picked.push({ place, byteLength: image.byteLength, label: source.label });
      }
    }
    filesDone += 1;
    bytesRead += byteSize;
  };

  for await (const file of filesOfBlocks(options.artifacts, used)) {
    options.throwIfStopped?.();
    const source = sources.at(filesDone);
    if (source === undefined) throw new BlocksDisagreeError('A block lists more files than there are.');
    await take(file, source);
  }
  writer?.startPass(pass, used);
  // Once: when the last of the passes that an earlier attempt has begun reads its first file.
  if (!earlier.isFirstAttempt && pass === (earlier.blocks.at(-1)?.head.pass ?? 1))
    await options.onContinue?.({ filesDone, imageCount: counts.imageCount, fault: earlier.fault });

  shared = await sharedSlides(options, sources, filesDone);
  const read = async (source: SourceImage, room: HeldResources<MemoryKind>) => ({
    source,
    file: await readSource(options, source, room, shared),
  });
  const limits = readingLimitsOf(options, shared !== null);
  for await (const { source, file } of mapInOrder(sources.slice(filesDone), limits, read)) {
    options.throwIfStopped?.();
    const imageCountBefore = counts.imageCount;
    await take(file, source);
    await writer?.add(file, packedSoFar(imageCountBefore));
    if (performance.now() - reportedAt >= PROGRESS_EVERY_MS) {
      await options.onProgress?.(progressNow(filesDone / sources.length));
      reportedAt = performance.now();
    }
  }
  if (willBeRepeated && conflicts.size === 0) throw new BlocksDisagreeError('The conflicts of a block are gone.');
  if (conflicts.size > 0) {
    await writer?.finishRepeatedPass(packedSoFar(counts.imageCount));
    return { conflicts };
  }

  const result = await seal(options, decided, turn, { counts, patchCounts, picked, bytesRead });
  await options.onProgress?.(progressNow(1));
  return { result };
}

async function sharedSlides(
  { parts, isDryRun = false, slides, folder, artifacts, throwIfStopped }: ImportOptions,
  sources: Iterable<SourceImage>,
  doneCount: number,
): Promise<SharedSlides | null> {
  if (parts === undefined || isDryRun || slides == null) return null;
  const { patchSizePx } = slides;
  return shareSlides({ folder, sources, doneCount, patchSizePx, artifacts, parts, throwIfStopped });
}

/** What a pass has found that its sinks do not hold. */
interface Packed {
  readonly counts: ContentCounts;
  /** Images of each slide, by its path. */
  readonly patchCounts: ReadonlyMap<string, number>;
  readonly picked: readonly PickedImage[];
  readonly bytesRead: number;
}

/** Reports what was found, and stores the last shard, the manifest, the list of issues, thumbnails and slides. */
async function seal(
  options: ImportOptions,
  { plan, planned }: Decided,
  { issues, artifacts, shards, manifest }: Pass,
  { counts, patchCounts, picked, bytesRead }: Packed,
): Promise<ImportResult> {
  if (counts.imageCount === 0) {
    await reportFindings(options, plan, counts, issues, true);
    throw nothingReadable(issues.list());
  }
  const keptLabels = new Set(counts.labelCounts().map(({ label }) => label));
  for (const { label, count } of planned.labelCounts()) {
    if (keptLabels.has(label)) continue;
    const reason = `None of its ${count} files could be imported, so the version lacks this label.`;
    issues.add('LABEL_WITHOUT_IMAGES', label, { reason });
  }
  addContentIssues(issues, counts, {
    isLabelled: plan.isLabelled,
    previous: options.previous ?? null,
    hasAllImages: true,
  });
  const report = await reportFindings(options, plan, counts, issues, true);
  if (report.questions.length > 0 && options.isDryRun !== true) throw needsAnswer(issues.list(), options.accept ?? []);

  const stored = await shards.finish();
  const storedManifest = await manifest.store(artifacts);
  const issueList = report.issueList ?? (await issues.store(artifacts));
  const isDryRun = options.isDryRun === true;
  const thumbnails = isDryRun ? [] : await storeThumbnails(options, picked, stored);
  const slides = isDryRun ? [] : await storeSlides(artifacts, plan.slides ?? [], patchCounts);
  const labelCounts = counts.labelCounts();
  return {
    ...storedManifest,
    imageCount: counts.imageCount,
    byteSize: stored.reduce((sum, shard) => sum + shard.byteSize, 0),
    labelNames: labelCounts.map(({ label }) => label),
    labelCounts,
    groupCount: counts.groupCount,
    ungroupedImageCount: counts.ungroupedImageCount,
    hasSplit: counts.splitCounts().length > 0,
    issues: issues.list(),
    issueList,
    shards: stored,
    ...{ thumbnails, slides },
    bytesRead,
    questions: report.questions,
  };
}
