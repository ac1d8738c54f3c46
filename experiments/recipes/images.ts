/** The two sets of real tissue, decoded once into a file of pixels that every cell reads. */
import { createReadStream } from 'node:fs';
import { open, readdir } from 'node:fs/promises';
import path from 'node:path';
import { parse } from 'csv-parse';
import sharp, { type Sharp } from 'sharp';
import { z } from 'zod';

/** Labelled images on which a frozen encoder is evaluated. */
export interface ProbeSet {
  readonly name: string;
  /** Rows of the pixel file. */
  readonly rows: readonly number[];
  readonly labels: readonly number[];
  readonly labelNames: readonly string[];
  /** Patient or slide; if it is unknown, each image is its own group, and intervals are too narrow. */
  readonly groups: readonly string[];
  /** `train` and `test` by the set's own split, or null: folds by group. */
  readonly splits: readonly ('train' | 'test')[] | null;
}

export interface PixelSet {
  readonly name: DataName;
  readonly sizePx: number;
  readonly imageCount: number;
  /** Number of rows, from the first, that are used for pretraining. */
  readonly trainCount: number;
  readonly probes: readonly ProbeSet[];
}

export const DATA_NAMES = ['pcam-mini', 'histology-mini'] as const;
export type DataName = (typeof DATA_NAMES)[number];

/** Images decoded at once. */
const PARALLEL = 8;

interface Source {
  readonly file: string;
  /** Cut into squares of this side; null: whole. */
  readonly patchSizePx: number | null;
}

/** Writes uint8 RGB `[imageCount, sizePx, sizePx, 3]` to `pixelsPath`. Throws Error if the data is missing. */
export async function writePixels(
  name: DataName,
  dataDir: string,
  sizePx: number,
  pixelsPath: string,
): Promise<PixelSet> {
  switch (name) {
    case 'pcam-mini':
      return writePcam(path.join(dataDir, name), sizePx, pixelsPath);
    case 'histology-mini':
      return writeHistology(path.join(dataDir, name), sizePx, pixelsPath);
  }
}

const pcamRow = z.object({ path: z.string(), label: z.string(), split: z.enum(['train', 'validation', 'test']) });
const PCAM_LABELS = ['no_tumour_in_centre', 'tumour_in_centre'];

/** Training rows first; recipes are chosen on the validation part and confirmed on the test part. */
async function writePcam(dir: string, sizePx: number, pixelsPath: string): Promise<PixelSet> {
  const rows = (await readCsv(path.join(dir, 'labels.csv'), pcamRow)).sort((a, b) => a.path.localeCompare(b.path));
  const parts = Map.groupBy(rows, ({ split }) => split);
  const [train = [], validation = [], test = []] = (['train', 'validation', 'test'] as const).map((split) =>
    parts.get(split),
  );
  const ordered = [...train, ...validation, ...test];
  await writeSquares(
    ordered.map((row) => ({ file: path.join(dir, row.path), patchSizePx: null })),
    sizePx,
    pixelsPath,
  );
  const probe = (probeName: string, first: number, tested: typeof rows): ProbeSet => {
    const used = [...train, ...tested];
    return {
      name: probeName,
      rows: [...train.keys(), ...tested.map((_, index) => first + index)],
      labels: used.map(({ label }) => PCAM_LABELS.indexOf(label)),
      labelNames: PCAM_LABELS,
      groups: used.map((row) => row.path),
      splits: used.map((_, index) => (index < train.length ? 'train' : 'test')),
    };
  };
  return {
    name: 'pcam-mini',
    sizePx,
    imageCount: ordered.length,
    trainCount: train.length,
    probes: [
      probe('pcam-mini validation', train.length, validation),
      probe('pcam-mini test', train.length + validation.length, test),
    ],
  };
}

const histologyRow = z.object({ path: z.string(), dataset: z.string(), label: z.string(), group: z.string() });
/** Larger pictures are cut, so that a pixel covers about the same area of tissue in all images. */
const HISTOLOGY_PATCH_PX: Readonly<Record<string, number>> = {
  osteosarcoma_ut: 512,
  breakhis: 230,
  kidney_multistain: 250,
  openslide_ki67: 240,
  bccd_blood: 240,
};
const HISTOLOGY_UNCUT = ['lc25000_lung', 'camelyon16_patches', 'kather2016_texture'];
const HISTOLOGY_PROBES = ['osteosarcoma_ut', 'kather2016_texture', 'lc25000_lung'];

/** All rows are used for pretraining, without labels; three folders are used for evaluation, in folds by group. */
async function writeHistology(dir: string, sizePx: number, pixelsPath: string): Promise<PixelSet> {
  const folders = [...Object.keys(HISTOLOGY_PATCH_PX), ...HISTOLOGY_UNCUT];
  const rows = (await readCsv(path.join(dir, 'sources.csv'), histologyRow)).filter((row) =>
    folders.includes(row.dataset),
  );
  const counts = await writeSquares(
    rows.map((row) => ({ file: path.join(dir, row.path), patchSizePx: HISTOLOGY_PATCH_PX[row.dataset] ?? null })),
    sizePx,
    pixelsPath,
  );
  const owners = rows.flatMap((row, index) => Array.from({ length: counts[index] ?? 0 }, () => row));
  const probes = HISTOLOGY_PROBES.map((dataset): ProbeSet => {
    const places = [...owners.keys()].filter((place) => owners[place]?.dataset === dataset);
    const labels = places.map((place) => owners[place]?.label ?? '');
    const labelNames = [...new Set(labels)].sort();
    return {
      name: dataset,
      rows: places,
      labels: labels.map((label) => labelNames.indexOf(label)),
      labelNames,
      groups: places.map((place) => owners[place]?.group || (owners[place]?.path ?? '')),
      splits: null,
    };
  });
  return { name: 'histology-mini', sizePx, imageCount: owners.length, trainCount: owners.length, probes };
}

async function readCsv<Row>(file: string, schema: z.ZodType<Row>): Promise<Row[]> {
  const rows: Row[] = [];
  for await (const row of createReadStream(file).pipe(parse({ columns: true, bom: true })))
    rows.push(schema.parse(row));
  return rows;
}

/** Writes the squares in the order of their sources; returns the number of squares of each source. */
async function writeSquares(sources: readonly Source[], sizePx: number, pixelsPath: string): Promise<number[]> {
  const file = await open(pixelsPath, 'w');
  try {
    const counts: number[] = [];
    for (let first = 0; first < sources.length; first += PARALLEL) {
      for (const squares of await Promise.all(
        sources.slice(first, first + PARALLEL).map((s) => squaresOf(s, sizePx)),
      )) {
        counts.push(squares.length);
        for (const square of squares) await file.write(square);
      }
    }
    return counts;
  } finally {
    await file.close();
  }
}

async function squaresOf({ file, patchSizePx }: Source, sizePx: number): Promise<Buffer[]> {
  const image = sharp(file).toColourspace('srgb').removeAlpha();
  const square = (part: Sharp): Promise<Buffer> =>
    part.resize(sizePx, sizePx, { fit: 'cover', kernel: 'linear' }).raw().toBuffer();
  if (patchSizePx === null) return [await square(image)];
  const { width, height } = await sharp(file).metadata();
  const places = (side: number): number[] =>
    Array.from({ length: Math.floor(side / patchSizePx) }, (_, index) => index * patchSizePx);
  return Promise.all(
    places(height).flatMap((top) =>
      places(width).map((left) =>
        square(image.clone().extract({ left, top, width: patchSizePx, height: patchSizePx })),
      ),
    ),
  );
}

/** The folders in a data directory. */
export async function availableData(dataDir: string): Promise<DataName[]> {
  const entries: string[] = await readdir(dataDir).catch(() => []);
  return DATA_NAMES.filter((name) => entries.includes(name));
}
