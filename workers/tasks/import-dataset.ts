/** A run of kind IMPORT: turns a folder of images into a sealed dataset version. */
import path from 'node:path';
import { openImportFile, openImportFolder } from '../../src/platform/import-roots.ts';
import { openImageDecoders } from '../imaging/decoder/image-decoders.ts';
import { importImages, type Continued, type ImportProgress, type ImportResult } from '../imaging/import-images.ts';
import { SHARD_LIMITS, type ShardLimits } from '../imaging/shard-writer.ts';
import type { SlidesToPlan } from '../imaging/slides/plan-slides.ts';
import type { SlideReaders } from '../imaging/slides/slide-readers.ts';
import { openImportReaders } from './import-readers.ts';
import type { Task, TaskContext, TaskResult } from './task.ts';
import type { StoredBytes } from '../../src/protocol/artifacts.ts';
import { importConfigSchema, type ImportConfig, type ImportOutcome } from '../../src/protocol/import.ts';

/**
 * The version is created and sealed in the transaction that ends the run, so a failure before it leaves nothing to
 * clean up. A new attempt continues behind the last shard that an earlier one has sealed, and produces the same bytes.
 */
export const importDatasetTask: Task = importTask(SHARD_LIMITS);

export function importTask(shardLimits: ShardLimits): Task {
  return { kind: 'IMPORT', run: (context, rawConfig) => importDataset(context, rawConfig, shardLimits) };
}

async function importDataset(context: TaskContext, rawConfig: unknown, shardLimits: ShardLimits): Promise<TaskResult> {
  const config = importConfigSchema.parse(rawConfig);
  // The disk may have changed since the launch, so the paths are checked again, and exactly the checked paths are
  // read.
  await using folder = await openImportFolder(config.path, config.importRoots, 'input.path');
  await using labelsCsv =
    config.labelsCsvPath === null
      ? null
      : await openImportFile(config.labelsCsvPath, config.importRoots, 'input.labelsCsvPath');
  const annotationsPath = config.slides?.annotations?.path ?? null;
  await using annotations =
    annotationsPath === null
      ? null
      : await openImportFolder(annotationsPath, config.importRoots, 'input.slides.annotations.path');
  const annotationFolder =
    annotations === null || annotationsPath === null
      ? null
      : { folder: annotations, below: belowOf(config.path, annotationsPath) };
  await using decoders = openImageDecoders({
    hiddenFolder: context.dataDir,
    onFailure: (failure) => context.logger.warn(failure, 'an image decoder failed'),
  });
  await using readers =
    config.slides === null
      ? null
      : await openImportReaders(context.dataDir, (message) => {
          // A report that fails is no reason to end the download: the import's own next report fails as well.
          context.progress(0, `Slide reader: ${message}.`).catch(() => undefined);
        });
  const kept = await context.registry.importBlocks({});
  const progressBefore = kept.at(-1)?.progress ?? 0;
  await context.progress(progressBefore, 'Looking for images.');
  const startedAtMs = performance.now();
  let lastFraction = progressBefore;
  const { layout, csvColumns, labelLevel, groupLevel, patchSizePx, sampleBits, keepConflicts, accept, dryRun } = config;
  const result = await importImages({
    ...{
      folder,
      layout,
      labelsCsv,
      csvColumns,
      labelLevel,
      groupLevel,
      patchSizePx,
      sampleBits,
      keepConflicts,
      accept,
    },
    slides: slidesOf(context, config, { readers, annotationFolder }, progressBefore),
    folderPath: config.path,
    isDryRun: dryRun,
    previous: await context.registry.latestVersion({ datasetId: config.datasetId }),
    artifacts: context.artifacts,
    decoders,
    workDir: context.workDir,
    shardLimits,
    throwIfStopped: () => context.throwIfStopped(),
    blocks: { kept, keep: async (block) => void (await context.registry.keepImportBlock({ block })) },
    parts: {
      plan: async (parts) => void (await context.registry.planParts({ parts })),
      take: (number) => context.registry.takePart({ number }),
      localFile: (sha256) => context.localFile(sha256),
      onNotice: async (sentence) => {
        await context.progress(lastFraction, sentence);
        // As an event of its own: the next report of progress has another message.
        await context.flush();
      },
    },
    onContinue: (continued) => reportContinued(context, continued, progressBefore),
    onProgress: async (progress) => {
      lastFraction = progress.fraction;
      await report(context, config, progress, startedAtMs);
    },
    onReport: async (found) => void (await context.registry.setImportReport({ report: found })),
  });
  if (dryRun) return { message: verdictOf(result), outcome: { kind: 'IMPORT', sealed: null } };
  const leftOut = result.issues.filter((issue) => !issue.kept).reduce((sum, issue) => sum + issue.count, 0);
  return {
    message: `Sealed ${result.imageCount} images in ${result.shards.length} ${result.shards.length === 1 ? 'shard' : 'shards'}; ${leftOut} left out.`,
    outcome: { kind: 'IMPORT', sealed: sealedContentOf(result) },
  };
}

function verdictOf({ imageCount, questions }: ImportResult): string {
  return questions.length === 0
    ? `Dry run: an import would seal ${imageCount} images.`
    : `Dry run: an import would be refused until ${questions.join(', ')} ${questions.length === 1 ? 'is' : 'are'} corrected or accepted.`;
}

async function reportContinued(
  context: TaskContext,
  { imageCount, filesDone, fault }: Continued,
  progress: number,
): Promise<void> {
  const start = filesDone === 0 ? 'Starts over' : `Continues after ${imageCount} images`;
  await context.progress(filesDone === 0 ? 0 : progress, fault === null ? `${start}.` : `${start}: ${fault}.`);
  // As an event of its own: the next report of progress has another message.
  await context.flush();
}

/** The path of a folder relative to another one; null if it does not lie below it. */
function belowOf(folderPath: string, innerPath: string): string | null {
  const relativePath = path.relative(folderPath, innerPath);
  return relativePath === '' || relativePath.startsWith('..') ? null : relativePath;
}

/** @param progress from which an earlier attempt is continued. */
function slidesOf(
  context: TaskContext,
  { slides, patchSizePx }: ImportConfig,
  { readers, annotationFolder }: Pick<SlidesToPlan, 'annotationFolder'> & { readonly readers: SlideReaders | null },
  progress: number,
) {
  if (slides === null || patchSizePx === null || readers === null) return null;
  return {
    ...{ options: slides, patchSizePx, readers, annotationFolder },
    onSlide: async (done: number, slideCount: number): Promise<void> => {
      context.throwIfStopped();
      await context.progress(progress, `Looked for tissue on ${done} of ${slideCount} slides.`);
    },
  };
}

async function report(
  context: TaskContext,
  { slides }: ImportConfig,
  progress: ImportProgress,
  startedAtMs: number,
): Promise<void> {
  const things = slides === null ? 'files' : 'batches of patches';
  const others = [...progress.readBy].map(([worker, count]) => `${count} by ${worker}`);
  const helped = others.length === 0 ? '' : `; slides read by other workers: ${others.join(', ')}`;
  const files = `${progress.filesDone} of ${progress.fileCount} ${things}${helped}`;
  await context.progress(
    progress.fraction,
    progress.pass === 1 ? `${files}.` : `${files}, again without the images with contradictory labels.`,
  );
  const seconds = Math.max(0.001, (performance.now() - startedAtMs) / 1000);
  await context.recordMetrics(progress.fraction, {
    step: progress.filesDone,
    metrics: { imageCount: progress.imageCount, megabytesPerSecond: progress.bytesRead / 1e6 / seconds },
  });
}

function sealedContentOf(result: ImportResult): ImportOutcome['sealed'] {
  const { digest, imageCount, byteSize, labelNames, labelCounts, groupCount, ungroupedImageCount, hasSplit } = result;
  return {
    ...{ digest, imageCount, byteSize, labelNames, labelCounts, groupCount, ungroupedImageCount, hasSplit },
    issues: result.issues.map(({ kind, count, kept, meaning, examples, entries }) => ({
      ...{ kind, count, kept, meaning, examples, entries },
    })),
    manifest: storedBytesOf(result.manifest),
    issueList: result.issueList === null ? null : storedBytesOf(result.issueList),
    shards: result.shards.map(({ sha256, byteSize: shardBytes, imageCount: shardImages }) => ({
      ...{ sha256, byteSize: shardBytes, imageCount: shardImages },
    })),
    thumbnails: result.thumbnails.map(({ label, ...stored }) => ({ ...storedBytesOf(stored), label })),
    slides: result.slides,
  };
}

function storedBytesOf({ sha256, byteSize }: StoredBytes): StoredBytes {
  return { sha256, byteSize };
}
