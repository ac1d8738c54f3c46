/**
 * A folder of images to a sealed set: shards, a manifest, thumbnails, and a list of what was wrong. Knows no database.
 *
 * The result is a function of the files' names and bytes alone: the same folder gives the same digest on any day and
 * disk.
 */
import type { FileHandle } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import path from 'node:path';
import { DomainError } from '../../src/errors.ts';
import type { ArtifactStore, StoredBytes } from '../../src/platform/artifact-store.ts';
import type { OpenFolder } from '../../src/platform/open-folder.ts';
import type { Finding } from './formats/image-header.ts';
import { createImageHashWriter } from './image-hashes.ts';
import { mapInOrder, type Reserve } from './in-order.ts';
import { createIssueLog, type ImportIssue, type IssueLog } from './issues.ts';
import { readLabelsCsv } from './labels-csv.ts';
import { compareCodePoints, listImages, type SourceImage } from './listing.ts';
import { createManifestWriter, type ManifestWriter } from './manifest-writer.ts';
import { prepareImage, type Prepared, type PreparedImage } from './prepare.ts';
import {
  createShardWriter,
  SHARD_LIMITS,
  type ShardLimits,
  type ShardWriter,
  type StoredShard,
} from './shard-writer.ts';
import { readSourceFile } from './source-file.ts';
import { createThumbnailPicker, makeThumbnail, type StoredThumbnail } from './thumbnails.ts';

export type ImportLayout = 'FLAT' | 'FOLDER_PER_LABEL' | 'CSV';

export interface ImportOptions {
  readonly folder: OpenFolder;
  readonly layout: ImportLayout;
  /** Required by layout CSV, else ignored. The caller closes it. */
  readonly labelsCsv: FileHandle | null;
  /** Side of the patches that images are cut into; null keeps them whole. */
  readonly patchSizePx: number | null;
  readonly artifacts: Pick<ArtifactStore, 'put'>;
  /** A private folder for temporary files; the caller removes it. */
  readonly workDir: string;
  readonly shardLimits?: ShardLimits;
  /** Called at least each half second while images are going through. A failure ends the import. */
  readonly onProgress?: (progress: ImportProgress) => Promise<void>;
  /** Called between images; what it throws ends the import. */
  readonly throwIfStopped?: () => void;
}

export interface ImportProgress {
  /** 0..1 of the files. */
  readonly fraction: number;
  readonly fileCount: number;
  readonly filesDone: number;
  readonly imageCount: number;
  /** Of source files read. */
  readonly bytesRead: number;
}

export interface ImportResult {
  /** sha256 over the sorted manifest; equal to `manifest.sha256`. */
  readonly digest: string;
  readonly manifest: StoredBytes;
  /** Of every image, in the order of the manifest: see image-hashes.ts. */
  readonly imageHashes: StoredBytes;
  readonly imageCount: number;
  /** Of all shards. */
  readonly byteSize: number;
  /** Sorted by code point. */
  readonly labelNames: readonly string[];
  readonly labelCounts: readonly { readonly label: string; readonly count: number }[];
  readonly groupCount: number;
  readonly hasSplit: boolean;
  readonly issues: readonly ImportIssue[];
  /** CSV of every single issue: see issues.ts. Null where there is none. */
  readonly issueList: StoredBytes | null;
  readonly shards: readonly StoredShard[];
  readonly thumbnails: readonly StoredThumbnail[];
  /** Of source files read. */
  readonly bytesRead: number;
}

/** Files and decoded pixels in memory at once; one larger image passes alone. */
const MEMORY_BYTES = 1024 * 1024 * 1024;
/** Enough that no core waits while the next image in order is still being decoded. */
const IMAGES_AHEAD_PER_CORE = 8;
const PROGRESS_EVERY_MS = 500;
/** Keys of equal length sort as numbers do. */
const KEY_DIGITS = 9;

/**
 * @throws DomainError IMPORT_FOLDER_EMPTY, IMPORT_NOTHING_READABLE, LABELS_CSV_INVALID. What fails leaves no
 * half-written artifact behind.
 */
export async function importImages(options: ImportOptions): Promise<ImportResult> {
  const issues = createIssueLog({ cutsPatches: options.patchSizePx !== null, workDir: options.workDir });
  const sources = await sourcesOf(options, issues);
  const shards = createShardWriter(options.artifacts, options.shardLimits ?? SHARD_LIMITS);
  const manifest = createManifestWriter(path.join(options.workDir, 'manifest.jsonl'));
  try {
    return await pack(options, sources, issues, shards, manifest);
  } finally {
    await shards.abandon();
    await manifest.abandon();
  }
}

async function sourcesOf({ folder, layout, labelsCsv }: ImportOptions, issues: IssueLog): Promise<SourceImage[]> {
  if (layout === 'CSV') {
    if (labelsCsv === null) {
      throw new DomainError({
        code: 'LABELS_CSV_INVALID',
        message: 'Layout CSV needs a labels CSV.',
        field: 'input.labelsCsvPath',
        hint: 'Name the file.',
      });
    }
    return readLabelsCsv(labelsCsv, folder);
  }
  const sources = await listImages(folder, layout === 'FOLDER_PER_LABEL', issues);
  if (sources.length > 0) return sources;
  const hint = 'Put PNG, JPEG, TIFF, BMP or WebP files there.';
  throw new DomainError({
    code: 'IMPORT_FOLDER_EMPTY',
    message: 'The folder holds no images.',
    field: 'input.path',
    hint,
  });
}

async function pack(
  options: ImportOptions,
  sources: readonly SourceImage[],
  issues: IssueLog,
  shards: ShardWriter,
  manifest: ManifestWriter,
): Promise<ImportResult> {
  const { folder, layout, patchSizePx, artifacts } = options;
  const picker = createThumbnailPicker(sources);
  // A few kilobytes each: they wait here, so that an import that fails has stored none.
  const thumbnails: { readonly made: Promise<Buffer>; readonly label: string | null }[] = [];
  /** Where the pixels were first seen. */
  const seenPixels = new Map<string, string>();
  const imageHashes = createImageHashWriter();
  const counts = createCounts();
  let imageCount = 0;
  let filesDone = 0;
  let bytesRead = 0;
  let reportedAt = -Infinity;
  const ordinals = new Map<string | null, number>();

  const keep = async (image: PreparedImage, source: SourceImage): Promise<void> => {
    const key = String(imageCount).padStart(KEY_DIGITS, '0');
    const group = source.group ?? source.relativePath;
    const facts = { label: source.label, group, split: source.split };
    const shard = await shards.write(key, image.extension, image.bytes, facts);
    await manifest.write({
      key,
      sha256: image.sha256,
      ...facts,
      width: image.width,
      height: image.height,
      shard,
      byteSize: image.bytes.length,
      sourcePath: source.relativePath,
      cutFrom: image.cutFrom,
      profile: image.profile,
    });
    imageHashes.add(image.pixelDigest, image.perceptualHash);
    counts.add(source);
    imageCount += 1;
  };

  const addFinding = ({ issue, reason }: Finding, { relativePath }: SourceImage): void =>
    issues.add(issue, relativePath, reason === undefined ? {} : { reason });

  const limits = { windowSize: Math.max(8, availableParallelism() * IMAGES_AHEAD_PER_CORE), byteLimit: MEMORY_BYTES };
  const read = async (source: SourceImage, reserve: Reserve): Promise<ReadImage> =>
    readAndPrepare(folder, source, layout, patchSizePx, reserve);
  for await (const { source, prepared, byteSize } of mapInOrder(sources, limits, read)) {
    options.throwIfStopped?.();
    const ordinal = ordinals.get(source.label) ?? 0;
    ordinals.set(source.label, ordinal + 1);
    if (prepared.outcome === 'REFUSED') {
      addFinding(prepared.finding, source);
    } else {
      for (const note of prepared.notes) addFinding(note, source);
      if (prepared.blankCount > 0) issues.add('NEARLY_BLANK', source.relativePath, { count: prepared.blankCount });
      const fresh = prepared.images.filter((image) => {
        // 128 bits tell a billion images apart, and a million names in memory stay small; the width tells apart plain
        // images of one area.
        const name = `${image.width}:${image.pixelDigest.toString('base64url', 0, 16)}`;
        const relatedPath = seenPixels.get(name);
        if (relatedPath === undefined) seenPixels.set(name, source.relativePath);
        else issues.add('DUPLICATE', source.relativePath, { relatedPath });
        return relatedPath === undefined;
      });
      for (const image of fresh) {
        if (image.nearlyBlank) issues.add('NEARLY_BLANK', source.relativePath);
        await keep(image, source);
      }
      const face = fresh[fresh.length >> 1];
      if (face !== undefined && !face.nearlyBlank && picker.wants(source.label, ordinal)) {
        const made = makeThumbnail(face.bytes);
        // Its failure is met at the end; an import that ends before must not leave it unhandled.
        made.catch(() => undefined);
        thumbnails.push({ made, label: source.label });
      }
    }
    filesDone += 1;
    bytesRead += byteSize;
    if (performance.now() - reportedAt >= PROGRESS_EVERY_MS) {
      await options.onProgress?.({
        fraction: filesDone / sources.length,
        fileCount: sources.length,
        filesDone,
        imageCount,
        bytesRead,
      });
      reportedAt = performance.now();
    }
  }
  if (imageCount === 0) throw nothingReadable(issues);

  const { labelNames } = counts.labels();
  for (const [label, fileCount] of ordinals) {
    if (label === null || labelNames.includes(label)) continue;
    const reason = `Not one of its ${fileCount} files could be imported, so that the version lacks this label.`;
    issues.add('LABEL_WITHOUT_IMAGES', label, { reason });
  }
  for (const group of counts.groupsAcrossSplits()) issues.add('GROUP_ACROSS_SPLITS', group);
  const stored = await shards.finish();
  const storedManifest = await manifest.store(artifacts);
  const storedHashes = await imageHashes.store(artifacts);
  const issueList = await issues.store(artifacts);
  const storedThumbnails: StoredThumbnail[] = [];
  for (const { made, label } of thumbnails) storedThumbnails.push({ ...(await artifacts.put(await made)), label });
  await options.onProgress?.({ fraction: 1, fileCount: sources.length, filesDone, imageCount, bytesRead });
  return {
    digest: storedManifest.sha256,
    manifest: storedManifest,
    imageHashes: storedHashes,
    imageCount,
    byteSize: stored.reduce((sum, shard) => sum + shard.byteSize, 0),
    ...counts.labels(),
    groupCount: counts.groupCount(),
    hasSplit: sources.some((source) => source.split !== null),
    issues: issues.list(),
    issueList,
    shards: stored,
    thumbnails: storedThumbnails,
    bytesRead,
  };
}

interface ReadImage {
  readonly source: SourceImage;
  readonly prepared: Prepared;
  readonly byteSize: number;
}

async function readAndPrepare(
  folder: OpenFolder,
  source: SourceImage,
  layout: ImportLayout,
  patchSizePx: number | null,
  reserve: Reserve,
): Promise<ReadImage> {
  const file = await readSourceFile(folder, source.relativePath, reserve);
  if ('issue' in file) return { source, prepared: { outcome: 'REFUSED', finding: file }, byteSize: 0 };
  const byteSize = file.bytes.length;
  if (layout === 'FOLDER_PER_LABEL' && source.label === null)
    return { source, prepared: { outcome: 'REFUSED', finding: { issue: 'NO_LABEL' } }, byteSize };
  return { source, prepared: await prepareImage(file.bytes, patchSizePx, reserve), byteSize };
}

/** Labels, groups and splits of the images kept. */
function createCounts() {
  const labels = new Map<string, number>();
  const splitsOfGroup = new Map<string, string | null>();
  const ownGroups = new Set<string>();
  const across = new Set<string>();
  return {
    add: ({ label, group, split, relativePath }: SourceImage): void => {
      if (label !== null) labels.set(label, (labels.get(label) ?? 0) + 1);
      if (group === null) {
        ownGroups.add(relativePath);
        return;
      }
      const known = splitsOfGroup.get(group);
      if (known === undefined) splitsOfGroup.set(group, split);
      else if (known !== split) across.add(group);
    },
    labels: () => {
      const labelNames = [...labels.keys()].sort(compareCodePoints);
      return { labelNames, labelCounts: labelNames.map((label) => ({ label, count: labels.get(label) ?? 0 })) };
    },
    // A group may bear the name of another image's path: then they are one group to every reader of the manifest.
    groupCount: () => splitsOfGroup.size + [...ownGroups].filter((group) => !splitsOfGroup.has(group)).length,
    groupsAcrossSplits: () => [...across].sort(compareCodePoints),
  };
}

function nothingReadable(issues: IssueLog): DomainError {
  const found = issues.list();
  const [main] = [...found].sort((a, b) => b.count - a.count);
  const hint =
    main === undefined
      ? 'Put PNG, JPEG, TIFF, BMP or WebP files there.'
      : main.kind === 'NO_LABEL'
        ? 'Put images into one folder for each label, or use layout FLAT.'
        : `Found: ${found.map((issue) => `${issue.count} ${issue.kind}`).join(', ')}; for instance ${JSON.stringify(main.examples[0])}.`;
  return new DomainError({
    code: 'IMPORT_NOTHING_READABLE',
    message: 'No image in the folder can be used.',
    field: 'input.path',
    hint,
  });
}
