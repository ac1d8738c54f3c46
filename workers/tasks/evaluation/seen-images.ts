/**
 * Which images and patients of a version are in others too. Manifests are read in blocks of rows, so that memory grows
 * with what is looked for and with 8 bytes for each image that it is compared with.
 */
import { PERCEPTUAL_HASH_BYTES, PIXEL_DIGEST_BYTES } from '../../../src/formats/manifest/index.ts';
import { createDigestMatcher, findNearDuplicates } from '../../imaging/near-duplicates.ts';
import { tcgaPatientOf } from '../../imaging/tcga.ts';
import type { TaskContext } from '../task.ts';
import { openVersionManifest, type VersionWithManifest } from '../version-manifest.ts';

type Reader = Pick<TaskContext, 'localFile' | 'throwIfStopped'>;

export interface VersionOfDataset extends VersionWithManifest {
  readonly datasetId: string;
}

/** Some images of a version. */
export interface ImageRows {
  readonly version: VersionWithManifest;
  /** Rows of the manifest, ascending. */
  readonly rows: Int32Array;
}

export interface SearchProgress {
  /** Called for every block of rows of a manifest. */
  onRowsRead(rowCount: number): Promise<void>;
  /** @param fraction the share of the search for near duplicates that is done, 0..1. */
  onSearched(fraction: number): Promise<void>;
}

type Reading = Pick<SearchProgress, 'onRowsRead'>;

/**
 * For each of the images 1 if an image of the other versions has the same pixels, otherwise 0. Every version must have
 * image hashes. Throws ManifestError, and TaskStopped if a stop was requested.
 */
export async function findSamePixels(
  context: Reader,
  wanted: ImageRows,
  others: readonly VersionWithManifest[],
  progress: Reading,
): Promise<Uint8Array> {
  const matcher = createDigestMatcher(await bytesOf(context, wanted, 'pixelDigest', progress));
  for (const other of others) {
    await using manifest = await openVersionManifest(context, other);
    for await (const { rowCount, columns } of manifest.rows(['pixelDigest'])) {
      context.throwIfStopped();
      matcher.see(columns.pixelDigest);
      await progress.onRowsRead(rowCount);
    }
  }
  return matcher.matches();
}

/** The same for images that show the same picture: see near-duplicates.ts. */
export async function findSamePictures(
  context: Reader,
  wanted: ImageRows,
  others: readonly VersionWithManifest[],
  progress: SearchProgress,
): Promise<Uint8Array> {
  const tested = await bytesOf(context, wanted, 'perceptualHash', progress);
  const imageCount = others.reduce((sum, other) => sum + other.imageCount, 0);
  const seen = new Uint8Array(imageCount * PERCEPTUAL_HASH_BYTES);
  let offset = 0;
  for (const other of others) {
    await using manifest = await openVersionManifest(context, other);
    for await (const { rowCount, columns } of manifest.rows(['perceptualHash'])) {
      context.throwIfStopped();
      seen.set(columns.perceptualHash, offset);
      offset += columns.perceptualHash.length;
      await progress.onRowsRead(rowCount);
    }
  }
  return findNearDuplicates(tested, seen, {
    throwIfStopped: () => context.throwIfStopped(),
    onProgress: (fraction) => progress.onSearched(fraction),
  });
}

const BYTES_PER_ROW = { pixelDigest: PIXEL_DIGEST_BYTES, perceptualHash: PERCEPTUAL_HASH_BYTES } as const;

/** `[rows, bytes of the column]` */
async function bytesOf(
  context: Reader,
  { version, rows }: ImageRows,
  name: keyof typeof BYTES_PER_ROW,
  { onRowsRead }: Reading,
): Promise<Uint8Array> {
  const width = BYTES_PER_ROW[name];
  const picked = new Uint8Array(rows.length * width);
  let place = 0;
  await using manifest = await openVersionManifest(context, version);
  for await (const { firstRow, rowCount, columns } of manifest.rows([name])) {
    context.throwIfStopped();
    for (; place < rows.length; place += 1) {
      const row = (rows[place] ?? 0) - firstRow;
      if (row >= rowCount) break;
      picked.set(columns[name].subarray(row * width, (row + 1) * width), place * width);
    }
    await onRowsRead(rowCount);
  }
  return picked;
}

/**
 * Identifies the patients or slides of all images of a version, or of some; an image whose group is unknown adds
 * nothing. Names of groups are meaningful only within their dataset, except for TCGA barcodes, which identify the same
 * patient in every dataset and spelling. Throws ManifestError, and TaskStopped if a stop was requested.
 */
export async function identitiesOf(
  context: Reader,
  { version, rows }: { readonly version: VersionOfDataset; readonly rows: Int32Array | 'ALL' },
  { onRowsRead }: Reading,
): Promise<Set<string>> {
  const identities = new Set<string>();
  let place = 0;
  await using manifest = await openVersionManifest(context, version);
  for await (const { firstRow, rowCount, columns } of manifest.rows(['group', 'sourcePath'])) {
    context.throwIfStopped();
    const { group, sourcePath } = columns;
    const patients = group.values.map(tcgaPatientOf);
    const add = (row: number): void => {
      const code = group.codes[row] ?? -1;
      const patient = patients[code] ?? tcgaPatientOf(sourcePath.at(row) ?? '');
      const name = group.values[code];
      if (patient !== null) identities.add(patient);
      else if (name !== undefined) identities.add(`${version.datasetId} ${name}`);
    };
    if (rows === 'ALL') for (let row = 0; row < rowCount; row += 1) add(row);
    else
      for (; place < rows.length && (rows[place] ?? 0) < firstRow + rowCount; place += 1)
        add((rows[place] ?? 0) - firstRow);
    await onRowsRead(rowCount);
  }
  return identities;
}
