/** Seeds the database from prisma/catalog; idempotent. */
import { createHash } from 'node:crypto';
import type { Prisma } from '../../generated/prisma/client.ts';
import { ADVISORY_LOCKS } from '../../platform/advisory-lock.ts';
import type { Database, Transaction } from '../../platform/db.ts';
import { transactionsOf } from '../../platform/db.ts';
import type { CatalogueDataset, OrganRecord } from './datasets.records.ts';
import { columnsOf, deleteParts, insertParts } from './datasets.store.ts';

/** The result of seeding, as slugs. */
export interface SeedReport {
  readonly created: readonly string[];
  readonly updated: readonly string[];
  readonly unchanged: readonly string[];
  /** Not written, because a user created or edited them. */
  readonly kept: readonly string[];
}

/**
 * Writes what is new or changed in the catalogue, in one transaction. A row that a user created or edited is never
 * changed, and an unchanged row is not written. Safe to run from several servers at once.
 */
export function seedCatalogue(db: Database, catalogue: readonly CatalogueDataset[]): Promise<SeedReport> {
  return transactionsOf(db)(async (tx) => {
    await tx.$queryRaw`SELECT pg_advisory_xact_lock(${ADVISORY_LOCKS.SEED_CATALOGUE})::text`;
    const rows = await tx.dataset.findMany({
      where: { slug: { in: catalogue.map((dataset) => dataset.slug) } },
      select: { id: true, slug: true, catalogueDigest: true, editedAt: true },
    });
    const existing = new Map(rows.map((row) => [row.slug, row]));
    const missing: CatalogueDataset[] = [];
    const changed: { id: string; dataset: CatalogueDataset }[] = [];
    const unchanged: string[] = [];
    const kept: string[] = [];
    for (const dataset of catalogue) {
      const row = existing.get(dataset.slug);
      if (row === undefined) missing.push(dataset);
      else if (row.catalogueDigest === null || row.editedAt !== null) kept.push(dataset.slug);
      else if (row.catalogueDigest === digestOf(dataset)) unchanged.push(dataset.slug);
      else changed.push({ id: row.id, dataset });
    }
    if (missing.length + changed.length > 0) {
      const written = [...missing, ...changed.map((each) => each.dataset)];
      await tx.organ.createMany({ data: distinct(written.flatMap((dataset) => dataset.organs)), skipDuplicates: true });
      await tx.stain.createMany({ data: distinct(written.flatMap((dataset) => dataset.stains)), skipDuplicates: true });
      await writeParts(tx, [...(await insertAll(tx, missing)), ...(await updateAll(tx, changed))]);
      // Until autovacuum analyses the tables, the planner assumes that they are empty and scans them sequentially.
      await tx.$executeRaw`ANALYZE "Dataset", "Organ", "Stain", "DatasetOrgan", "DatasetStain", "DatasetResolution", "DatasetFactSource"`;
    }
    return {
      created: missing.map((dataset) => dataset.slug),
      updated: changed.map((each) => each.dataset.slug),
      unchanged,
      kept,
    };
  });
}

interface Seeded {
  readonly id: string;
  readonly dataset: CatalogueDataset;
}

async function insertAll(tx: Transaction, datasets: readonly CatalogueDataset[]): Promise<Seeded[]> {
  const bySlug = new Map(datasets.map((dataset) => [dataset.slug, dataset]));
  const created = await tx.dataset.createManyAndReturn({
    data: datasets.map((dataset) => ({ slug: dataset.slug, ...catalogueColumnsOf(dataset) })),
    select: { id: true, slug: true },
  });
  return created.flatMap(({ id, slug }) => {
    const dataset = bySlug.get(slug);
    return dataset === undefined ? [] : [{ id, dataset }];
  });
}

async function updateAll(tx: Transaction, changed: readonly Seeded[]): Promise<readonly Seeded[]> {
  for (const { id, dataset } of changed) await tx.dataset.update({ where: { id }, data: catalogueColumnsOf(dataset) });
  const ids = changed.map((each) => each.id);
  await deleteParts(tx, ids);
  await tx.datasetFactSource.deleteMany({ where: { datasetId: { in: ids } } });
  return changed;
}

async function writeParts(tx: Transaction, seeded: readonly Seeded[]): Promise<void> {
  await insertParts(
    tx,
    seeded.map(({ id, dataset }) => ({ id, facts: dataset })),
  );
  const facts = seeded.flatMap(({ id, dataset }) =>
    dataset.factSources.map((fact) => ({ ...fact, sourceUrls: [...fact.sourceUrls], datasetId: id })),
  );
  await tx.datasetFactSource.createMany({ data: facts });
}

function catalogueColumnsOf(dataset: CatalogueDataset): Omit<Prisma.DatasetCreateManyInput, 'slug'> {
  return {
    ...columnsOf(dataset),
    provenance: dataset.provenance,
    provenanceNote: dataset.provenanceNote,
    paperRoles: [...dataset.paperRoles],
    subcollections: dataset.subcollections.map((part) => ({ ...part, magnifications: [...part.magnifications] })),
    sourceUrls: [...dataset.sourceUrls],
    catalogueDigest: digestOf(dataset),
  };
}

/**
 * The hash covers every written column, search text included, so that a change of this code updates the rows as a
 * change of the files does.
 */
function digestOf(dataset: CatalogueDataset): string {
  return createHash('sha256')
    .update(JSON.stringify([dataset, columnsOf(dataset).searchText]))
    .digest('hex');
}

function distinct(coded: readonly OrganRecord[]): OrganRecord[] {
  return [...new Map(coded.map((each) => [each.code, each])).values()];
}
