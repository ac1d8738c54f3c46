/** The stages of a run: each does its work through the product, measures it, and checks what came out. */
import path from 'node:path';
import { ensureDataset } from '../src/cli/demo/steps.ts';
import type { Usage } from './usage.ts';
import { copyCountOf, TRAINING, type ScaleSize, type StageName } from './plan.ts';
import { EMBEDDING_SHARE } from '../workers/tasks/evaluation/progress-shares.ts';
import { checkpointOf, importedVersion, launch, leakageOf, type ScaleRegistry } from './registry.ts';

/** A measured part of a stage; most stages have one part. */
export interface MeasuredPart extends Usage {
  readonly name: string;
  readonly durationMs: number;
  /** The images that its cost may grow with: those that it processed, or all those of the version. */
  readonly imageCount: number;
  /** Bytes of the files that it wrote and did not delete. */
  readonly storedBytes: number;
}

export interface StageOutcome {
  readonly parts: readonly MeasuredPart[];
  /** Ids that later stages need. */
  readonly ids: Readonly<Record<string, string>>;
}

export interface DrawingContext {
  readonly size: ScaleSize;
  /** Of the drawn images. */
  readonly folder: string;
  readonly signal: AbortSignal;
  readonly onProgress: (fraction: number, text: string) => void;
}

/** A stage that works in the registry. */
export interface StageContext extends Omit<DrawingContext, 'signal'> {
  readonly registry: ScaleRegistry;
  /** An id from an earlier stage. @throws Error if it is missing. */
  id(name: string): string;
  /** Measures one part. If another part follows within the same work, the work calls `next` where that one begins. */
  measure(name: string, imageCount: number, work: (next: NextPart) => Promise<void>): Promise<MeasuredPart[]>;
}

export type NextPart = (name: string, imageCount: number) => Promise<void>;

/** Folders of the drawn images. */
export function foldersOf(folder: string) {
  return { whole: path.join(folder, 'whole'), tested: path.join(folder, 'tested') };
}

export const REGISTRY_STAGES: Readonly<
  Record<Exclude<StageName, 'draw'>, (context: StageContext) => Promise<StageOutcome>>
> = { import: importBoth, pretrain, evaluate };

async function importBoth(context: StageContext): Promise<StageOutcome> {
  const { size } = context;
  const { whole, tested } = foldersOf(context.folder);
  const wholeImport = await importFolder(context, 'whole', whole, size.imageCount, 'import');
  const testedImport = await importFolder(context, 'tested', tested, size.testImageCount, 'import of the tested');
  return {
    parts: [...wholeImport.parts, ...testedImport.parts],
    ids: { wholeVersionId: wholeImport.versionId, testedVersionId: testedImport.versionId },
  };
}

async function importFolder(
  { registry, measure, onProgress }: StageContext,
  slug: string,
  folder: string,
  imageCount: number,
  title: string,
) {
  const dataset = { slug: `scale-${slug}`, name: `Scale: ${slug}`, path: folder, layout: 'FOLDER_PER_LABEL' } as const;
  const { client } = registry;
  const datasetId = await ensureDataset(
    client,
    { ...dataset, labelsCsvPath: null, patchSizePx: null, isTest: false },
    true,
  );
  let versionId = '';
  const parts = await measure(title, imageCount, async () => {
    const { layout } = dataset;
    const input = { datasetId, path: folder, layout, labelLevel: 1, groupLevel: 2 };
    const runId = await launch(client, 'importDatasetVersion', input);
    await registry.follow(runId, ({ progress, message }) => onProgress(progress ?? 0, message ?? ''));
    const version = await importedVersion(client, runId);
    requireEqual(version.imageCount, imageCount, `images in the version of ${slug}`);
    versionId = version.id;
  });
  return { parts, versionId };
}

async function pretrain({ registry, measure, id, onProgress, size }: StageContext): Promise<StageOutcome> {
  const { client } = registry;
  let checkpointId = '';
  const parts = await measure('pretrain', size.imageCount, async () => {
    const runId = await launch(client, 'launchPretraining', {
      ...TRAINING,
      ...{ modelSlug: 'scale', seed: size.seed, probe: { enabled: false } },
      datasets: [{ datasetVersionId: id('wholeVersionId') }],
    });
    await registry.follow(runId, ({ progress, message }) => onProgress(progress ?? 0, message ?? ''));
    checkpointId = await checkpointOf(client, runId);
  });
  return { parts, ids: { checkpointId } };
}

async function evaluate({ registry, measure, id, onProgress, size }: StageContext): Promise<StageOutcome> {
  const { client } = registry;
  let hasEmbedded = false;
  const parts = await measure('embed', size.testImageCount, async (next) => {
    const runId = await launch(client, 'launchEvaluation', {
      ...{ checkpointId: id('checkpointId'), datasetVersionId: id('testedVersionId'), seed: size.seed },
      ...{ protocol: 'LINEAR_PROBE', options: { bootstrapResamples: 100 } },
    });
    await registry.follow(runId, async ({ progress, message }) => {
      onProgress(progress ?? 0, message ?? '');
      if (hasEmbedded || (progress ?? 0) <= EMBEDDING_SHARE) return;
      hasEmbedded = true;
      await next('evaluate with leakage', size.testImageCount);
    });
    const leakage = await leakageOf(client, runId);
    requireEqual(leakage.testImageCount, size.testImageCount, 'tested images');
    requireEqual(leakage.exactImageCount, copyCountOf(size), 'tested images that the pretraining has seen');
  });
  return { parts, ids: {} };
}

function requireEqual(found: number | null, expected: number, what: string): void {
  if (found !== expected) throw new Error(`Expected ${expected} ${what}, got ${found}.`);
}
