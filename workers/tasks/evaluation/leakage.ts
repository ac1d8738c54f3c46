/** How many of an evaluation's test images the checkpoint has seen in its pretraining. */
import type { SealedVersion } from '../../../src/protocol/dataset-version.ts';
import type { TaskContext } from '../task.ts';
import { hasImageHashes } from '../version-manifest.ts';
import { findSamePictures, findSamePixels, identitiesOf, type SearchProgress } from './seen-images.ts';
import type { LeakageRecord } from '../../../src/protocol/evaluation.ts';

export interface TestedImages {
  readonly checkpointId: string;
  readonly version: SealedVersion;
  /** Rows of the manifest, ascending. */
  readonly testedRows: Int32Array;
  /** @param fraction the share of the comparison that is done, 0..1. */
  readonly onProgress: (fraction: number, message: string) => Promise<void>;
}

/** Null if the training data of the checkpoint is unknown, because its weights were imported. */
export async function leakageOf(context: TaskContext, tested: TestedImages): Promise<LeakageRecord | null> {
  const { checkpointId, version, testedRows } = tested;
  const { registry } = context;
  const pretraining = await registry.pretrainingData({ checkpointId });
  if (!pretraining.isComplete && pretraining.versions.length === 0) return null;
  const seenVersions = await registry.sealedVersions({
    ids: pretraining.versions.map(({ datasetVersionId }) => datasetVersionId),
  });
  const datasetIds = [...new Set([version.datasetId, ...seenVersions.map(({ datasetId }) => datasetId)])];
  const lineages = new Map((await registry.lineages({ datasetIds })).map((lineage) => [lineage.datasetId, lineage]));
  const own = lineages.get(version.datasetId);
  const seenLineages = seenVersions.flatMap(({ datasetId }) => lineages.get(datasetId) ?? []);
  const seenCollections = new Set(seenLineages.flatMap(({ slug, collections }) => [slug, ...collections]));
  const hasSameDataset = seenVersions.some(({ datasetId }) => datasetId === version.datasetId);

  const seenImageCount = seenVersions.reduce((sum, { imageCount }) => sum + imageCount, 0);
  const progress = createProgress(tested, seenImageCount);
  const testedGroups = await identitiesOf(context, { version, rows: testedRows }, progress);
  // Only what both have is kept, so that memory is bounded by the groups of one version.
  const sharedGroups = new Set<string>();
  for (const seen of seenVersions)
    for (const group of await identitiesOf(context, { version: seen, rows: 'ALL' }, progress))
      if (testedGroups.has(group)) sharedGroups.add(group);
  return {
    isComplete: pretraining.isComplete,
    isUpperBound: pretraining.versions.some(({ isPart }) => isPart),
    testImageCount: testedRows.length,
    ...(await countImages(context, tested, seenVersions, progress)),
    testGroupCount: testedGroups.size,
    sharedGroupCount: sharedGroups.size,
    sharedDatasets: hasSameDataset && own !== undefined ? [own.slug] : [],
    sharedCollections:
      own === undefined
        ? []
        : [own.slug, ...own.collections]
            .filter((slug) => seenCollections.has(slug) && slug !== (hasSameDataset ? own.slug : ''))
            .sort(),
  };
}

type ImageCounts = Pick<LeakageRecord, 'exactImageCount' | 'nearDuplicateImageCount' | 'unhashedVersionCount'>;

/** Counts are null if the images of one of the versions were never hashed. */
async function countImages(
  context: TaskContext,
  { version, testedRows }: TestedImages,
  seenVersions: readonly SealedVersion[],
  progress: SearchProgress,
): Promise<ImageCounts> {
  if (seenVersions.length === 0) return { exactImageCount: 0, nearDuplicateImageCount: 0, unhashedVersionCount: 0 };
  const unhashedVersionCount = [version, ...seenVersions.filter(({ id }) => id !== version.id)].filter(
    (each) => !hasImageHashes(each),
  ).length;
  if (unhashedVersionCount > 0) return { exactImageCount: null, nearDuplicateImageCount: null, unhashedVersionCount };
  const isExact = await findSamePixels(context, { version, rows: testedRows }, seenVersions, progress);
  const others = { version, rows: testedRows.filter((_, place) => isExact[place] === 0) };
  const isNear = await findSamePictures(context, others, seenVersions, progress);
  return {
    exactImageCount: testedRows.length - others.rows.length,
    nearDuplicateImageCount: isNear.reduce((count, near) => count + near, 0),
    unhashedVersionCount,
  };
}

/** Share of the time that reading manifests takes, for an honest progress bar. */
const READING_SHARE = 0.3;
/** Groups, digests and perceptual hashes are read one after another. */
const READINGS = 3;

function createProgress({ version, testedRows, onProgress }: TestedImages, seenImageCount: number): SearchProgress {
  const rowsToRead = READINGS * (version.imageCount + seenImageCount);
  const what = `${testedRows.length} test images with ${seenImageCount} images of the pretraining`;
  let rowsRead = 0;
  return {
    onRowsRead: (rowCount) => {
      rowsRead += rowCount;
      const fraction = rowsRead / rowsToRead;
      return onProgress(
        READING_SHARE * fraction,
        `Reading the manifests to compare ${what}: ${Math.floor(100 * fraction)} %.`,
      );
    },
    onSearched: (fraction) =>
      onProgress(READING_SHARE + (1 - READING_SHARE) * fraction, `Comparing ${what}: ${Math.floor(100 * fraction)} %.`),
  };
}
