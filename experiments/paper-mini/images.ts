/** The parts of histology-mini as datasets of a registry, for import, pretraining and testing. */
import { createReadStream } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { parse } from 'csv-parse';
import { z } from 'zod';
import type { DemoDataset } from '../../src/cli/demo/images.ts';

export interface ExperimentPart {
  readonly folder: string;
  readonly dataset: DemoDataset;
  /** HE, or another stain. */
  readonly isHematoxylinEosin: boolean;
}

interface PartPlan {
  readonly folder: string;
  readonly slug: string;
  readonly patchSizePx: number | null;
  readonly isHematoxylinEosin: boolean;
  /** True if it has enough labels and groups to test on. */
  readonly isTest: boolean;
}

/** Folders with the slug of the catalogue dataset that each is a part of, or a new slug. */
const PARTS: readonly PartPlan[] = [
  { folder: 'osteosarcoma_ut', slug: 'osteosarcoma', patchSizePx: 512, isHematoxylinEosin: true, isTest: true },
  {
    folder: 'kather2016_texture',
    slug: 'kather-texture-2016',
    patchSizePx: null,
    isHematoxylinEosin: true,
    isTest: true,
  },
  { folder: 'lc25000_lung', slug: 'lc25000', patchSizePx: null, isHematoxylinEosin: true, isTest: false },
  { folder: 'camelyon16_patches', slug: 'camelyon16', patchSizePx: null, isHematoxylinEosin: true, isTest: false },
  { folder: 'breakhis', slug: 'breakhis', patchSizePx: 230, isHematoxylinEosin: true, isTest: false },
  {
    folder: 'kidney_multistain',
    slug: 'kidney-multistain',
    patchSizePx: 250,
    isHematoxylinEosin: false,
    isTest: false,
  },
  { folder: 'openslide_ki67', slug: 'openslide-ki67', patchSizePx: 240, isHematoxylinEosin: false, isTest: false },
  { folder: 'bccd_blood', slug: 'bccd-blood', patchSizePx: 240, isHematoxylinEosin: false, isTest: false },
];

const rowSchema = z.object({ path: z.string(), dataset: z.string(), label: z.string(), group: z.string() });

/**
 * Writes a labels CSV for each part below `labelsDir`. @returns the parts that `dataDir` has. @throws Error where
 * sources.csv is missing.
 */
export async function experimentParts(dataDir: string, labelsDir: string): Promise<ExperimentPart[]> {
  await mkdir(labelsDir, { recursive: true });
  const rows: z.infer<typeof rowSchema>[] = [];
  for await (const row of createReadStream(path.join(dataDir, 'sources.csv')).pipe(parse({ columns: true })))
    rows.push(rowSchema.parse(row));
  const parts: ExperimentPart[] = [];
  for (const { folder, slug, patchSizePx, isHematoxylinEosin, isTest } of PARTS) {
    const own = rows.filter((row) => row.dataset === folder);
    if (own.length === 0) continue;
    const field = (value: string): string => `"${value.replaceAll('"', '""')}"`;
    const lines = own.map((row) => [row.path.slice(folder.length + 1), row.label, row.group].map(field).join(','));
    const labelsCsvPath = path.join(labelsDir, `${folder}.csv`);
    await writeFile(labelsCsvPath, `path,label,group\n${lines.join('\n')}\n`);
    parts.push({
      folder,
      isHematoxylinEosin,
      dataset: {
        slug,
        name: folder,
        path: path.join(dataDir, folder),
        layout: 'CSV',
        labelsCsvPath,
        patchSizePx,
        isTest,
      },
    });
  }
  return parts;
}
