/**
 * The embeddings of one slide as a file that tools for multiple-instance learning read. HDF5 has the arrays and the
 * attributes that CLAM and TRIDENT write: features float32 `[N, D]`, coords int64 `[N, 2]`.
 */
import { open, rename, rm, type FileHandle } from 'node:fs/promises';
import { ByteWriter, ParquetWriter } from 'hyparquet-writer';
import { hdf5Head } from '../../formats/hdf5.ts';
import type { ManifestColumns } from '../../formats/manifest/index.ts';
import { npyHeader } from '../../formats/npy.ts';

export const FEATURE_COLUMNS = [
  ...(['key', 'label', 'slide', 'x', 'y', 'level0Width', 'level0Height'] as const),
  ...(['micronsPerPixel', 'width', 'sourceWidth', 'sourceHeight'] as const),
] as const;
export type FeatureColumns = Pick<ManifestColumns, (typeof FEATURE_COLUMNS)[number]>;

export const FEATURE_FORMATS = { H5: true, NPY: true, PARQUET: true } as const;
export type FeatureFormat = keyof typeof FEATURE_FORMATS;

export interface SlideOfFeatures {
  /** Path of the slide within the imported folder. */
  readonly slide: string;
  /** Without a folder and an ending, unless another slide of the version has the same name. */
  readonly name: string;
  /** Rows of the manifest, and of the embeddings. */
  readonly rows: Int32Array;
}

/** The slides of a version in the order of their first patch; images that were not cut from a slide are left out. */
export function slidesIn({ slide }: Pick<FeatureColumns, 'slide'>): SlideOfFeatures[] {
  const rowsOf = slide.values.map((): number[] => []);
  for (const [row, code] of slide.codes.entries()) rowsOf[code]?.push(row);
  const names = namesOf(slide.values);
  return slide.values.map((value, code) => ({
    ...{ slide: value, name: names[code] ?? value },
    rows: Int32Array.from(rowsOf[code] ?? []),
  }));
}

/** The shortest form of each path that no other path has: the stem, the path without ending, the whole path. */
function namesOf(slides: readonly string[]): string[] {
  const forms = slides.map((slide) => {
    const path = slide.replace(/\.[^./]+$/, '');
    return [path.slice(path.lastIndexOf('/') + 1), path, slide] as const;
  });
  const counts = new Map<string, number>();
  for (const form of forms) for (const each of new Set(form)) counts.set(each, (counts.get(each) ?? 0) + 1);
  return forms.map((form) => form.find((each) => counts.get(each) === 1) ?? form[2]);
}

/** What the features of a folder were made with; the same in all of its files. */
export interface FeatureSource {
  /** `model@version` */
  readonly encoder: string;
  readonly encoderSha256: string;
  /** `dataset@version` */
  readonly dataset: string;
  readonly datasetDigest: string;
  readonly embeddingDim: number;
}

/** An `.npy` of float32 `[imageCount, embeddingDim]` that is open for reading. */
export interface EmbeddingFile {
  readonly file: FileHandle;
  readonly imageCount: number;
  readonly embeddingDim: number;
}

/** Names of the files of a slide, of which the last one is written last. */
export function featureFilesOf(format: FeatureFormat, name: string): readonly string[] {
  switch (format) {
    case 'H5':
      return [`${name}.h5`];
    case 'NPY':
      return [`${name}.coords.npy`, `${name}.npy`];
    case 'PARQUET':
      return [`${name}.parquet`];
  }
}

/**
 * Writes the files of a slide; each gets its name only when it is whole.
 * @param paths where `featureFilesOf` says, in its order.
 */
export async function writeFeatures(
  format: FeatureFormat,
  paths: readonly string[],
  { slide, columns, source, embeddings }: FeaturesToWrite,
): Promise<void> {
  const { rows } = slide;
  const [first = '', second = ''] = paths;
  switch (format) {
    case 'H5':
      return writeWhole(first, async (write) => {
        await write(h5HeadOf(slide, columns, source));
        await write(coordsOf(rows, columns));
        for await (const chunk of embeddingsOf(rows, embeddings)) await write(chunk);
      });
    case 'NPY':
      await writeWhole(first, async (write) => {
        await write(npyHeader([rows.length, 2], '<i8'));
        await write(coordsOf(rows, columns));
      });
      return writeWhole(second, async (write) => {
        await write(npyHeader([rows.length, source.embeddingDim], '<f4'));
        for await (const chunk of embeddingsOf(rows, embeddings)) await write(chunk);
      });
    case 'PARQUET':
      return writeWhole(first, (write) => writeParquet({ slide, columns, source, embeddings }, write));
  }
}

interface FeaturesToWrite {
  readonly slide: SlideOfFeatures;
  readonly columns: FeatureColumns;
  readonly source: FeatureSource;
  readonly embeddings: EmbeddingFile;
}

type Write = (bytes: Uint8Array) => Promise<void>;

async function writeWhole(path: string, fill: (write: Write) => Promise<void>): Promise<void> {
  const part = `${path}.part`;
  const file = await open(part, 'w', 0o644);
  try {
    await fill(async (bytes) => void (await file.writeFile(bytes)));
    await file.sync();
  } catch (error) {
    await rm(part, { force: true });
    throw error;
  } finally {
    await file.close();
  }
  await rename(part, path);
}

/**
 * The attributes of `coords` are TRIDENT's, all in pixels of level 0 or of the patch. CLAM's `patch_level` is left out:
 * with it a CLAM script would cut `patch_size` pixels of that level, which is another resolution than that of these
 * patches. Magnifications are the nominal ones, 10 um/px divided by the resolution; `microns_per_pixel` is exact.
 */
function h5HeadOf({ name, rows }: SlideOfFeatures, columns: FeatureColumns, source: FeatureSource): Buffer {
  const first = rows[0] ?? 0;
  const patchSizePx = columns.width[first] ?? 0;
  const level0Width = columns.level0Width[first] ?? patchSizePx;
  const micronsPerPixel = columns.micronsPerPixel[first] ?? Number.NaN;
  const magnification = (resolution: number): bigint => BigInt(Math.max(1, Math.round(10 / resolution)));
  const integer = (value: number | undefined): bigint => BigInt(Math.round(value ?? 0));
  return hdf5Head([
    {
      ...{ name: 'coords', type: 'INT64', shape: [rows.length, 2] },
      attributes: {
        patch_size: integer(patchSizePx),
        patch_size_level0: integer(level0Width),
        level0_magnification: magnification((micronsPerPixel * patchSizePx) / level0Width),
        target_magnification: magnification(micronsPerPixel),
        overlap: integer(overlapPxOf(rows, columns, patchSizePx / level0Width)),
        name,
        level0_width: integer(columns.sourceWidth[first]),
        level0_height: integer(columns.sourceHeight[first]),
        microns_per_pixel: micronsPerPixel,
      },
    },
    {
      ...{ name: 'features', type: 'FLOAT32', shape: [rows.length, source.embeddingDim] },
      attributes: {
        name,
        encoder: source.encoder,
        encoder_sha256: source.encoderSha256,
        dataset: source.dataset,
        dataset_digest: source.datasetDigest,
      },
    },
  ]);
}

/** How many pixels neighbouring patches of a row share at most; 0 if none of the slide's patches overlap. */
function overlapPxOf(rows: Int32Array, { x, y, width }: FeatureColumns, patchPxPerLevel0Px: number): number {
  const inRow = new Map<number, number[]>();
  for (const row of rows) {
    const at = y[row] ?? 0;
    const xs = inRow.get(at);
    if (xs === undefined) inRow.set(at, [x[row] ?? 0]);
    else xs.push(x[row] ?? 0);
  }
  let step = Infinity;
  for (const xs of inRow.values()) {
    xs.sort((a, b) => a - b);
    for (const [index, value] of xs.entries()) {
      const before = xs[index - 1];
      if (before !== undefined && value > before) step = Math.min(step, value - before);
    }
  }
  const patchSizePx = width[rows[0] ?? 0] ?? 0;
  return Math.max(0, patchSizePx - Math.round(Math.min(step * patchPxPerLevel0Px, patchSizePx)));
}

/** int64 `[N, 2]`, little-endian: the top left corners in pixels of level 0. */
function coordsOf(rows: Int32Array, { x, y }: FeatureColumns): Buffer {
  const bytes = Buffer.alloc(rows.length * 16);
  for (const [index, row] of rows.entries()) {
    bytes.writeBigInt64LE(BigInt(x[row] ?? 0), index * 16);
    bytes.writeBigInt64LE(BigInt(y[row] ?? 0), index * 16 + 8);
  }
  return bytes;
}

/** Of a read of embeddings: a slide of any number of patches is never in memory whole. */
const CHUNK_BYTES = 4 * 1024 * 1024;

/** The embeddings of rows, in their order, as little-endian float32 in whole rows. */
async function* embeddingsOf(
  rows: Int32Array,
  { file, imageCount, embeddingDim }: EmbeddingFile,
): AsyncGenerator<Buffer, void> {
  const dataStart = npyHeader([imageCount, embeddingDim], '<f4').length;
  const rowBytes = embeddingDim * 4;
  const rowsMax = Math.max(1, Math.floor(CHUNK_BYTES / rowBytes));
  for (let done = 0; done < rows.length;) {
    const first = rows[done] ?? 0;
    let count = 1;
    while (count < rowsMax && rows[done + count] === first + count) count += 1;
    const bytes = Buffer.alloc(count * rowBytes);
    const { bytesRead } = await file.read(bytes, 0, bytes.length, dataStart + first * rowBytes);
    if (bytesRead !== bytes.length) throw new Error('The file of embeddings is shorter than its shape.');
    yield bytes;
    done += count;
  }
}

/** One row for each patch; the embedding is a list of floats. */
async function writeParquet({ slide, columns, source, embeddings }: FeaturesToWrite, write: Write): Promise<void> {
  const bytes = new ByteWriter();
  const flat = { repetition_type: 'REQUIRED' } as const;
  const parquet = new ParquetWriter({
    writer: bytes,
    schema: [
      { name: 'features', num_children: 7 },
      { name: 'key', type: 'BYTE_ARRAY', converted_type: 'UTF8', ...flat },
      { name: 'label', type: 'BYTE_ARRAY', converted_type: 'UTF8', repetition_type: 'OPTIONAL' },
      { name: 'x', type: 'INT32', ...flat },
      { name: 'y', type: 'INT32', ...flat },
      { name: 'level0Width', type: 'INT32', ...flat },
      { name: 'level0Height', type: 'INT32', ...flat },
      { name: 'embedding', converted_type: 'LIST', num_children: 1, ...flat },
      { name: 'list', num_children: 1, repetition_type: 'REPEATED' },
      { name: 'element', type: 'FLOAT', ...flat },
    ],
    kvMetadata: Object.entries({ slide: slide.slide, ...source }).map(([key, value]) => ({
      ...{ key: `paraffin.${key}`, value: String(value) },
    })),
    createdBy: 'paraffin',
  });
  const drain = async (): Promise<void> => {
    const written = new Uint8Array(bytes.buffer.slice(0, bytes.index));
    bytes.index = 0;
    await write(written);
  };
  let done = 0;
  for await (const chunk of embeddingsOf(slide.rows, embeddings)) {
    const count = chunk.length / (source.embeddingDim * 4);
    const rows = [...slide.rows.subarray(done, done + count)];
    const values = new Float32Array(chunk.buffer, chunk.byteOffset, chunk.length / 4);
    const integers = (column: Float64Array): number[] => rows.map((row) => column[row] ?? 0);
    await parquet.write({
      columnData: [
        { name: 'key', data: rows.map((row) => columns.key.at(row)) },
        { name: 'label', data: rows.map((row) => columns.label.at(row)) },
        ...(['x', 'y', 'level0Width', 'level0Height'] as const).map((name) => ({
          name,
          data: integers(columns[name]),
        })),
        {
          ...{ name: 'embedding', codec: 'UNCOMPRESSED', statistics: false },
          data: rows.map((_, index) => [
            ...values.subarray(index * source.embeddingDim, (index + 1) * source.embeddingDim),
          ]),
        },
      ],
      rowGroupSize: count,
    });
    await drain();
    done += count;
  }
  await parquet.finish();
  await drain();
}
