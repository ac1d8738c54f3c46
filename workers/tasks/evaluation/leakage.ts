/** How many of an evaluation's test images the checkpoint has seen in its pretraining. */
import type { SealedVersionRecord } from '../../../src/modules/datasets/index.ts';
import type { LeakageRecord } from '../../../src/modules/evaluations/index.ts';
import { PERCEPTUAL_HASH_BYTES, PIXEL_DIGEST_BYTES } from '../../../src/formats/manifest/index.ts';
import type { ManifestImage } from '../../engine/data/manifest.ts';
import { createDigestMatcher, findNearDuplicates } from '../../imaging/near-duplicates.ts';
import { tcgaPatientOf } from '../../imaging/tcga.ts';
import type { TaskContext } from '../task.ts';
import { hasImageHashes, imageHashesOfVersion, openVersionManifest } from '../version-manifest.ts';

export interface TestedImages {
  readonly checkpointId: string;
  readonly version: SealedVersionRecord;
  readonly manifest: readonly ManifestImage[];
  /** Rows of the manifest, ascending. */
  readonly testedRows: Int32Array;
  /** @param fraction the share of the comparison that is done, 0..1. */
  readonly onProgress: (fraction: number, message: string) => Promise<void>;
}

/** Null if the training data of the checkpoint is unknown, because its weights were imported. */
export async function leakageOf(context: TaskContext, tested: TestedImages): Promise<LeakageRecord | null> {
  const { checkpointId, version, manifest, testedRows } = tested;
  const { datasets, models } = context.services;
  const pretraining = await models.pretrainingOf(checkpointId);
  if (!pretraining.isComplete && pretraining.versions.length === 0) return null;
  const seenVersions = await datasets.requireSealedVersions(
    pretraining.versions.map(({ datasetVersionId }) => datasetVersionId),
  );
  const lineages = await datasets.lineagesOf([version.datasetId, ...seenVersions.map(({ datasetId }) => datasetId)]);
  const own = lineages.get(version.datasetId);
  const seenLineages = seenVersions.flatMap(({ datasetId }) => lineages.get(datasetId) ?? []);
  const seenCollections = new Set(seenLineages.flatMap(({ slug, collections }) => [slug, ...collections]));
  const hasSameDataset = seenVersions.some(({ datasetId }) => datasetId === version.datasetId);

  const testedGroups = identitiesOf(
    version.datasetId,
    Array.from(testedRows).flatMap((row) => manifest[row] ?? []),
  );
  const seenGroups = new Set<string>();
  for (const seen of seenVersions) {
    context.throwIfStopped();
    for (const group of await identitiesOfVersion(context, seen)) seenGroups.add(group);
  }
  return {
    isComplete: pretraining.isComplete,
    isUpperBound: pretraining.versions.some(({ isPart }) => isPart),
    testImageCount: testedRows.length,
    ...(await countImages(context, tested, seenVersions)),
    testGroupCount: testedGroups.size,
    sharedGroupCount: [...testedGroups].filter((group) => seenGroups.has(group)).length,
    sharedDatasets: hasSameDataset && own !== undefined ? [own.slug] : [],
    sharedCollections:
      own === undefined
        ? []
        : [own.slug, ...own.collections]
            .filter((slug) => seenCollections.has(slug) && slug !== (hasSameDataset ? own.slug : ''))
            .sort(),
  };
}

/**
 * Identifies the patients or slides of images; an image whose group is unknown adds nothing. Names of groups are
 * meaningful only within their dataset, except for TCGA barcodes, which identify the same patient in every dataset and
 * spelling.
 */
export function identitiesOf(
  datasetId: string,
  images: Iterable<Pick<ManifestImage, 'group' | 'sourcePath'>>,
): Set<string> {
  const identities = new Set<string>();
  for (const { group, sourcePath } of images) {
    const patient = tcgaPatientOf(group ?? '') ?? tcgaPatientOf(sourcePath ?? '');
    if (patient !== null) identities.add(patient);
    else if (group !== null) identities.add(`${datasetId} ${group}`);
  }
  return identities;
}

/** The patients or slides of all images of a version. */
export async function identitiesOfVersion(context: TaskContext, version: SealedVersionRecord): Promise<Set<string>> {
  await using manifest = await openVersionManifest(context, version);
  const identities = new Set<string>();
  for await (const { rowCount, columns } of manifest.rows(['group', 'sourcePath'])) {
    const images = Array.from({ length: rowCount }, (_, row) => ({
      group: columns.group.at(row),
      sourcePath: columns.sourcePath.at(row),
    }));
    for (const identity of identitiesOf(version.datasetId, images)) identities.add(identity);
    context.throwIfStopped();
  }
  return identities;
}

type ImageCounts = Pick<LeakageRecord, 'exactImageCount' | 'nearDuplicateImageCount' | 'unhashedVersionCount'>;

/** Counts are null if the images of one of the versions were never hashed. */
async function countImages(
  context: TaskContext,
  { version, testedRows, onProgress }: TestedImages,
  seenVersions: readonly SealedVersionRecord[],
): Promise<ImageCounts> {
  if (seenVersions.length === 0) return { exactImageCount: 0, nearDuplicateImageCount: 0, unhashedVersionCount: 0 };
  const unhashedVersionCount = [version, ...seenVersions.filter(({ id }) => id !== version.id)].filter(
    (each) => !hasImageHashes(each),
  ).length;
  if (unhashedVersionCount > 0) return { exactImageCount: null, nearDuplicateImageCount: null, unhashedVersionCount };
  const tested = await imageHashesOfVersion(context, version);
  const digests = createDigestMatcher(rowsOf(tested.pixelDigests, PIXEL_DIGEST_BYTES, testedRows));
  const perceptual: Uint8Array[] = [];
  for (const seenVersion of seenVersions) {
    context.throwIfStopped();
    const seen = await imageHashesOfVersion(context, seenVersion);
    digests.see(seen.pixelDigests);
    perceptual.push(seen.perceptualHashes);
  }
  const isExact = digests.matches();
  const otherRows = testedRows.filter((_, place) => isExact[place] === 0);
  const seenPerceptual = Buffer.concat(perceptual);
  const seenCount = seenPerceptual.length / PERCEPTUAL_HASH_BYTES;
  const isNear = await findNearDuplicates(
    rowsOf(tested.perceptualHashes, PERCEPTUAL_HASH_BYTES, otherRows),
    seenPerceptual,
    {
      throwIfStopped: () => context.throwIfStopped(),
      onProgress: (fraction) =>
        onProgress(
          fraction,
          `Comparing ${testedRows.length} test images with ${seenCount} images of the pretraining: ${Math.floor(100 * fraction)} %.`,
        ),
    },
  );
  return {
    exactImageCount: testedRows.length - otherRows.length,
    nearDuplicateImageCount: isNear.reduce((count, near) => count + near, 0),
    unhashedVersionCount,
  };
}

/** Some rows of an array of `width` bytes a row. */
function rowsOf(values: Uint8Array, width: number, rows: Int32Array): Uint8Array {
  const picked = new Uint8Array(rows.length * width);
  for (const [place, row] of rows.entries()) picked.set(values.subarray(row * width, (row + 1) * width), place * width);
  return picked;
}
