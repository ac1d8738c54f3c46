/** Reads prisma/catalog: one JSON file for each dataset, named by its slug. */
import { readFile, readdir } from 'node:fs/promises';
import path from 'node:path';
import { catalogueRowSchema, datasetOfRow, type CatalogueRow } from './catalogue.rules.ts';
import type { CatalogueDataset } from './datasets.records.ts';

const CATALOGUE_FOLDER = path.resolve(import.meta.dirname, '../../../prisma/catalog');

/** Every fault of the catalogue's files, each with file and field. */
export class CatalogueError extends Error {
  readonly faults: readonly string[];

  constructor(faults: readonly string[]) {
    super(
      `The catalogue has ${faults.length === 1 ? 'a fault' : `${faults.length} faults`}:\n${faults.map((fault) => `  - ${fault}`).join('\n')}`,
    );
    this.name = 'CatalogueError';
    this.faults = faults;
  }
}

/**
 * The catalogue in a folder (the project's own when left out), sorted by slug.
 * @throws CatalogueError listing every fault of every file.
 */
export async function loadCatalogue(folder: string = CATALOGUE_FOLDER): Promise<CatalogueDataset[]> {
  const names = (await readdir(folder)).filter((name) => name.endsWith('.json')).sort();
  const faults: string[] = [];
  const rows: CatalogueRow[] = [];
  const texts = await Promise.all(names.map((name) => readFile(path.join(folder, name), 'utf8')));
  for (const [index, name] of names.entries()) {
    const parsed = catalogueRowSchema.safeParse(parseJson(texts[index] ?? ''));
    if (parsed.success) {
      rows.push(parsed.data);
      if (`${parsed.data.slug}.json` !== name)
        faults.push(`${name}: slug: must be the file's name, not "${parsed.data.slug}"`);
    } else {
      faults.push(
        ...parsed.error.issues.map((issue) => `${name}: ${issue.path.join('.') || 'file'}: ${issue.message}`),
      );
    }
  }
  const slugs = new Set(names.map((name) => name.slice(0, -'.json'.length)));
  for (const row of rows) {
    for (const parent of row.parent_collections ?? []) {
      if (!slugs.has(parent) || parent === row.slug)
        faults.push(`${row.slug}.json: parent_collections: "${parent}" is not another dataset of the catalogue`);
    }
  }
  if (faults.length > 0) throw new CatalogueError(faults);
  return rows.map(datasetOfRow);
}

/** Undefined for text that is not JSON; the schema then reports what it expected. */
function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
