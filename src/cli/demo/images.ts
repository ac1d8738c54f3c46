/** The images of the demo: real ones if available, else SYNTHETIC ones that it draws. */
import { createReadStream, existsSync } from 'node:fs';
import { mkdir, readdir, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { parse } from 'csv-parse';
import sharp from 'sharp';
import { DomainError } from '../../errors.ts';
import { drawTissue } from '../../synthetic/tissue.ts';

/** One dataset to import. */
export interface DemoDataset {
  /** The slug of a catalogue row, or of one that the demo creates. */
  readonly slug: string;
  readonly name: string;
  readonly path: string;
  readonly layout: 'FOLDER_PER_LABEL' | 'CSV' | 'FLAT';
  readonly labelsCsvPath: string | null;
  readonly patchSizePx: number | null;
  /** True if it has enough labels and groups to compare encoders; the first such dataset is the one in the table. */
  readonly isTest: boolean;
}

export interface DemoImages {
  readonly synthetic: boolean;
  readonly source: string;
  readonly importRoots: readonly string[];
  readonly datasets: readonly DemoDataset[];
}

const PROJECT_ROOT = path.resolve(import.meta.dirname, '../../..');
const NEIGHBOUR = path.resolve(PROJECT_ROOT, '../shared/data/histology-mini');

/** Folders of histology-mini that the demo uses, with the catalogue row that each belongs to. */
const HISTOLOGY_MINI: readonly {
  readonly folder: string;
  readonly slug: string;
  readonly name: string;
  readonly patchSizePx: number | null;
  readonly isTest: boolean;
}[] = [
  { folder: 'osteosarcoma_ut', slug: 'osteosarcoma', name: 'Osteosarcoma (part)', patchSizePx: 256, isTest: true },
  { folder: 'lc25000_lung', slug: 'lc25000', name: 'LC25000 (part)', patchSizePx: null, isTest: true },
  {
    folder: 'kather2016_texture',
    slug: 'kather-texture-2016',
    name: 'Kather texture 2016 (part)',
    patchSizePx: null,
    isTest: true,
  },
];

/**
 * @param dataDir the demo's data directory: label files and drawn images go below it.
 * @param given the folder of `--data`, if any: the layout of histology-mini (with a sources.csv), or a folder for each
 * label.
 * @throws DomainError IMPORT_PATH_NOT_FOUND.
 */
export async function chooseImages(dataDir: string, given: string | undefined): Promise<DemoImages> {
  const folder = given === undefined ? NEIGHBOUR : path.resolve(given);
  if (existsSync(folder)) {
    if (existsSync(path.join(folder, 'sources.csv'))) return histologyMini(dataDir, folder);
    return oneFolder(folder);
  }
  if (given !== undefined)
    throw new DomainError({
      code: 'IMPORT_PATH_NOT_FOUND',
      message: `The folder ${folder} does not exist.`,
      field: '--data',
      hint: 'Give a folder with one subfolder of images for each label.',
    });
  return drawnTissue(dataDir);
}

async function histologyMini(dataDir: string, folder: string): Promise<DemoImages> {
  const labelsDir = path.join(dataDir, 'imports', 'demo-labels');
  await mkdir(labelsDir, { recursive: true });
  const rows = await readSources(path.join(folder, 'sources.csv'));
  const datasets: DemoDataset[] = [];
  for (const part of HISTOLOGY_MINI) {
    const own = rows.filter((row) => row.path.startsWith(`${part.folder}/`));
    if (own.length === 0) continue;
    const labelsCsvPath = path.join(labelsDir, `${part.folder}.csv`);
    const lines = own.map((row) =>
      [row.path.slice(part.folder.length + 1), row.label, row.group].map(csvCell).join(','),
    );
    await writeFile(labelsCsvPath, ['path,label,group', ...lines, ''].join('\n'));
    datasets.push({
      slug: part.slug,
      name: part.name,
      path: path.join(folder, part.folder),
      layout: 'CSV',
      labelsCsvPath,
      patchSizePx: part.patchSizePx,
      isTest: part.isTest,
    });
  }
  if (!datasets.some((dataset) => dataset.isTest))
    throw new DomainError({
      code: 'IMPORT_PATH_NOT_FOUND',
      message: `${folder} has a sources.csv but no images of osteosarcoma_ut.`,
      field: '--data',
      hint: 'Give a folder with one subfolder of images for each label.',
    });
  return { synthetic: false, source: folder, importRoots: [folder], datasets };
}

async function oneFolder(folder: string): Promise<DemoImages> {
  const patchSizePx = (await typicalShortSidePx(folder)) >= 512 ? 256 : null;
  const dataset: DemoDataset = {
    slug: 'demo-images',
    name: `Images of ${path.basename(folder)}`,
    path: folder,
    layout: 'FOLDER_PER_LABEL',
    labelsCsvPath: null,
    patchSizePx,
    isTest: true,
  };
  return { synthetic: false, source: folder, importRoots: [folder], datasets: [dataset] };
}

async function drawnTissue(dataDir: string): Promise<DemoImages> {
  const folder = path.join(dataDir, 'imports', 'synthetic-tissue');
  await drawTissue({ outDir: folder, imagesPerLabel: 160, imageSizePx: 192, seed: 1, groups: 10 });
  const labelsCsvPath = path.join(folder, 'labels.csv');
  const hasCsv = existsSync(labelsCsvPath);
  const dataset: DemoDataset = {
    slug: 'synthetic-tissue',
    name: 'SYNTHETIC tissue-like drawings',
    path: folder,
    layout: hasCsv ? 'CSV' : 'FOLDER_PER_LABEL',
    labelsCsvPath: hasCsv ? labelsCsvPath : null,
    patchSizePx: null,
    isTest: true,
  };
  return { synthetic: true, source: folder, importRoots: [folder], datasets: [dataset] };
}

interface SourceRow {
  readonly path: string;
  readonly label: string;
  readonly group: string;
}

async function readSources(file: string): Promise<SourceRow[]> {
  const rows: SourceRow[] = [];
  for await (const record of createReadStream(file).pipe(parse({ columns: true }))) {
    const fields: unknown = record;
    if (typeof fields !== 'object' || fields === null || !('path' in fields)) continue;
    const text = (name: string): string => {
      const value: unknown = Reflect.get(fields, name);
      return typeof value === 'string' ? value : '';
    };
    rows.push({ path: text('path'), label: text('label'), group: text('group') });
  }
  return rows;
}

function csvCell(text: string): string {
  return /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** The median short side of a few images: large fields of view are cut into patches, but patches are not. */
async function typicalShortSidePx(folder: string): Promise<number> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const files = entries
    .filter((entry) => entry.isFile() && /\.(png|jpe?g|tiff?|webp)$/i.test(entry.name))
    .slice(0, 200);
  const sides: number[] = [];
  for (const entry of files.filter((_, index) => index % Math.ceil(files.length / 15) === 0)) {
    const file = path.join(entry.parentPath, entry.name);
    const facts = await stat(file).then(() =>
      sharp(file)
        .metadata()
        .catch(() => undefined),
    );
    if (facts !== undefined) sides.push(Math.min(facts.width, facts.height));
  }
  return sides.sort((a, b) => a - b)[Math.floor(sides.length / 2)] ?? 0;
}
