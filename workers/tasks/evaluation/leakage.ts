/** How many of an evaluation's test images the checkpoint has seen in its pretraining. */
import { readNpy } from '../../../src/formats/npy.ts';
import type { SealedVersionRecord } from '../../../src/modules/datasets/index.ts';
import type { LeakageRecord } from '../../../src/modules/evaluations/index.ts';
import { parseManifest, type ManifestImage } from '../../engine/data/manifest.ts';
import { IMAGE_HASH_BYTES, PERCEPTUAL_HASH_BYTES, PIXEL_DIGEST_BYTES } from '../../imaging/image-hashes.ts';
import { createHashIndex } from '../../imaging/near-duplicates.ts';
import { tcgaPatientOf } from '../../imaging/tcga.ts';
import type { TaskContext } from '../task.ts';

export interface TestedImages {
  readonly checkpointId: string;
  readonly version: SealedVersionRecord;
  readonly manifest: readonly ManifestImage[];
  /** Rows of the manifest, ascending. */
  readonly testedRows: Int32Array;
}

/** Null if the training data of the checkpoint is unknown, because its weights were imported. */
export async function leakageOf(
  context: TaskContext,
  { checkpointId, version, manifest, testedRows }: TestedImages,
): Promise<LeakageRecord | null> {
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
    for (const group of identitiesOf(seen.datasetId, await manifestOf(context, seen))) seenGroups.add(group);
  }
  return {
    isComplete: pretraining.isComplete,
    isUpperBound: pretraining.versions.some(({ isPart }) => isPart),
    testImageCount: testedRows.length,
    ...(await countImages(context, version, testedRows, seenVersions)),
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

/** Every image of a version. */
export async function manifestOf(context: TaskContext, version: SealedVersionRecord): Promise<ManifestImage[]> {
  return parseManifest((await context.artifacts.read(version.manifestSha256)).toString('utf8'));
}

/**
 * Identifies the patients or slides of images; an image whose group is unknown adds nothing. Names of groups are
 * meaningful only within their dataset, except for TCGA barcodes, which identify the same patient in every dataset and
 * spelling.
 */
export function identitiesOf(datasetId: string, images: readonly ManifestImage[]): Set<string> {
  return new Set(
    images.flatMap(({ group, sourcePath }) => {
      const patient = tcgaPatientOf(group ?? '') ?? tcgaPatientOf(sourcePath ?? '');
      if (patient !== null) return [patient];
      return group === null ? [] : [`${datasetId} ${group}`];
    }),
  );
}

type ImageCounts = Pick<LeakageRecord, 'exactImageCount' | 'nearDuplicateImageCount' | 'unhashedVersionCount'>;

/** Counts are null if the images of one of the versions were never hashed. */
async function countImages(
  context: TaskContext,
  version: SealedVersionRecord,
  testedRows: Int32Array,
  seenVersions: readonly SealedVersionRecord[],
): Promise<ImageCounts> {
  if (seenVersions.length === 0) return { exactImageCount: 0, nearDuplicateImageCount: 0, unhashedVersionCount: 0 };
  const unhashedVersionCount = [version, ...seenVersions.filter(({ id }) => id !== version.id)].filter(
    ({ imageHashesSha256 }) => imageHashesSha256 === null,
  ).length;
  if (unhashedVersionCount > 0) return { exactImageCount: null, nearDuplicateImageCount: null, unhashedVersionCount };
  const tested = await hashesOf(context, version);
  const exact = new Set<number>();
  const near = new Set<number>();
  for (const seenVersion of seenVersions) {
    context.throwIfStopped();
    const seen = await hashesOf(context, seenVersion);
    const index = createHashIndex(seen.perceptual);
    for (const row of testedRows) {
      if (seen.digests.has(tested.digestAt(row))) exact.add(row);
      else if (
        !near.has(row) &&
        index.hasNear(tested.perceptual.subarray(row * PERCEPTUAL_HASH_BYTES, (row + 1) * PERCEPTUAL_HASH_BYTES))
      )
        near.add(row);
    }
  }
  return {
    exactImageCount: exact.size,
    nearDuplicateImageCount: [...near].filter((row) => !exact.has(row)).length,
    unhashedVersionCount,
  };
}

interface ImageHashes {
  /** Of every image. */
  readonly digests: ReadonlySet<string>;
  digestAt(row: number): string;
  /** `[N, 8]`. */
  readonly perceptual: Uint8Array;
}

async function hashesOf(context: TaskContext, { id, imageHashesSha256 }: SealedVersionRecord): Promise<ImageHashes> {
  const { shape, data } = readNpy(await context.artifacts.read(imageHashesSha256 ?? ''));
  const [count = 0, width] = shape;
  if (!(data instanceof Uint8Array) || width !== IMAGE_HASH_BYTES)
    throw new Error(`The image hashes of version ${id} are not uint8 [N, ${IMAGE_HASH_BYTES}].`);
  const perceptual = new Uint8Array(count * PERCEPTUAL_HASH_BYTES);
  const digestAt = (row: number): string =>
    Buffer.from(data.subarray(row * IMAGE_HASH_BYTES, row * IMAGE_HASH_BYTES + PIXEL_DIGEST_BYTES)).toString(
      'base64url',
    );
  const digests = new Set<string>();
  for (let row = 0; row < count; row += 1) {
    digests.add(digestAt(row));
    perceptual.set(
      data.subarray(row * IMAGE_HASH_BYTES + PIXEL_DIGEST_BYTES, (row + 1) * IMAGE_HASH_BYTES),
      row * PERCEPTUAL_HASH_BYTES,
    );
  }
  return { digests, digestAt, perceptual };
}
