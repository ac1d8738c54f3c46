/** Datasets in PostgreSQL: writing, vocabulary and counts. Lists and facets are in dataset-list.store.ts. */
import { Prisma } from '../../generated/prisma/client.ts';
import type { Database, Transaction } from '../../platform/db.ts';
import { countFacets, findDataset, findDatasets, listDatasets } from './dataset-list.store.ts';
import type {
  CatalogueDataset,
  DatasetFacts,
  DatasetLineageRecord,
  DatasetRecord,
  FactSourceRecord,
  OrganRecord,
  StainRecord,
} from './datasets.records.ts';

export type DatasetStore = ReturnType<typeof createDatasetStore>;

export function createDatasetStore(db: Database) {
  return {
    find: (
      by: { id?: string | undefined; slug?: string | undefined },
      tx: Transaction = db,
    ): Promise<DatasetRecord | undefined> => findDataset(tx, by),
    findMany: (ids: readonly string[]): Promise<DatasetRecord[]> => findDatasets(db, ids),
    list: (...args: Rest<typeof listDatasets>) => listDatasets(db, ...args),
    facets: (...args: Rest<typeof countFacets>) => countFacets(db, ...args),

    /** By name. */
    organs: (): Promise<OrganRecord[]> => db.organ.findMany({ orderBy: { name: 'asc' } }),
    stains: (): Promise<StainRecord[]> => db.stain.findMany({ orderBy: { name: 'asc' } }),

    organCounts: async (codes: readonly string[]): Promise<Map<string, number>> => {
      const rows = await db.datasetOrgan.groupBy({
        by: ['organCode'],
        where: { organCode: { in: [...codes] } },
        _count: true,
      });
      return new Map(rows.map((row) => [row.organCode, row._count]));
    },
    stainCounts: async (codes: readonly string[]): Promise<Map<string, number>> => {
      const rows = await db.datasetStain.groupBy({
        by: ['stainCode'],
        where: { stainCode: { in: [...codes] } },
        _count: true,
      });
      return new Map(rows.map((row) => [row.stainCode, row._count]));
    },

    factSources: async (datasetIds: readonly string[]): Promise<(FactSourceRecord & { datasetId: string })[]> =>
      db.datasetFactSource.findMany({
        where: { datasetId: { in: [...datasetIds] } },
        orderBy: [{ datasetId: 'asc' }, { field: 'asc' }],
      }),

    /** The slugs among these that belong to a dataset. */
    knownSlugs: async (slugs: readonly string[]): Promise<Set<string>> =>
      new Set(
        (await db.dataset.findMany({ where: { slug: { in: [...slugs] } }, select: { slug: true } })).map(
          (row) => row.slug,
        ),
      ),

    /** For each dataset, its own slug and the slugs of all collections that it was cut from. */
    lineagesOf: async (ids: readonly string[]): Promise<Map<string, DatasetLineageRecord>> => {
      const rows = await db.$queryRaw<{ id: string; slug: string; collections: string[] }[]>`
        WITH RECURSIVE line AS (
          SELECT d.id, unnest(d."parentCollections") AS parent FROM "Dataset" d WHERE d.id = ANY(${[...ids]}::uuid[])
          UNION
          SELECT line.id, unnest(p."parentCollections") FROM line JOIN "Dataset" p ON p.slug = line.parent)
        SELECT d.id, d.slug, array_remove(array_agg(DISTINCT line.parent), NULL) AS collections
        FROM "Dataset" d LEFT JOIN line ON line.id = d.id WHERE d.id = ANY(${[...ids]}::uuid[]) GROUP BY d.id, d.slug`;
      return new Map(rows.map(({ id, slug, collections }) => [id, { slug, collections }]));
    },

    /** Undefined when the slug is taken. */
    create: async (tx: Transaction, slug: string, facts: DatasetFacts): Promise<DatasetRecord | undefined> => {
      const [created] = await tx.dataset.createManyAndReturn({
        data: [{ ...columnsOf(facts), slug, provenance: 'LOCAL' }],
        skipDuplicates: true,
        select: { id: true },
      });
      if (created === undefined) return undefined;
      await insertParts(tx, [{ id: created.id, facts }]);
      return findDataset(tx, { id: created.id });
    },

    /** Locks the row until the transaction ends. */
    lock: async (tx: Transaction, id: string): Promise<DatasetRecord | undefined> => {
      await tx.$queryRaw`SELECT 1 FROM "Dataset" WHERE id = ${id}::uuid FOR UPDATE`;
      return findDataset(tx, { id });
    },

    /** Writes all facts, and deletes the evidence of the changed fields, because it does not support the new values. */
    update: async (
      tx: Transaction,
      id: string,
      facts: DatasetFacts,
      changedFields: readonly string[],
    ): Promise<DatasetRecord | undefined> => {
      await tx.dataset.update({ where: { id }, data: { ...columnsOf(facts), editedAt: new Date() } });
      await tx.datasetFactSource.deleteMany({ where: { datasetId: id, field: { in: [...changedFields] } } });
      await deleteParts(tx, [id]);
      await insertParts(tx, [{ id, facts }]);
      return findDataset(tx, { id });
    },
  };
}

type Rest<Work> = Work extends (db: Database, ...args: infer Args) => unknown ? Args : never;

/** The columns of the dataset's own row, search text included. */
export function columnsOf(facts: DatasetFacts | CatalogueDataset): Omit<Prisma.DatasetCreateManyInput, 'slug'> {
  const {
    name,
    description,
    synthetic,
    imageKind,
    imageCount,
    slideCount,
    imageSizeNote,
    licence,
    publishedYear,
    homepageUrl,
    notes,
  } = facts;
  return {
    ...{
      name,
      description,
      synthetic,
      imageKind,
      imageCount,
      slideCount,
      imageSizeNote,
      licence,
      publishedYear,
      homepageUrl,
      notes,
    },
    classNames: [...facts.classNames],
    tasks: [...facts.tasks],
    ihcMarkers: [...facts.ihcMarkers],
    citation: facts.citation === null ? Prisma.DbNull : { ...facts.citation },
    parentCollections: [...facts.parentCollections],
    searchText: searchTextOf(facts),
  };
}

/** The text that full-text search covers in addition to name and slug. */
export function searchTextOf(facts: DatasetFacts): string {
  const { citation } = facts;
  return [
    ...facts.organs.map((organ) => organ.name),
    ...facts.stains.map((stain) => stain.name),
    ...facts.ihcMarkers,
    ...facts.classNames,
    ...facts.tasks.map((task) => task.toLowerCase()),
    facts.description,
    facts.notes,
    citation?.authors,
    citation?.title,
    citation?.venue,
    facts.licence,
    ...facts.parentCollections,
    facts.synthetic ? 'synthetic' : null,
  ]
    .filter((text) => typeof text === 'string')
    .join('\n');
}

export interface FactsOfDataset {
  readonly id: string;
  readonly facts: DatasetFacts;
}

/** Inserts organs, stains and resolutions of datasets that have none yet. */
export async function insertParts(tx: Transaction, datasets: readonly FactsOfDataset[]): Promise<void> {
  await tx.datasetOrgan.createMany({
    data: datasets.flatMap(({ id, facts }) => facts.organs.map((organ) => ({ datasetId: id, organCode: organ.code }))),
  });
  await tx.datasetStain.createMany({
    data: datasets.flatMap(({ id, facts }) => facts.stains.map((stain) => ({ datasetId: id, stainCode: stain.code }))),
  });
  await tx.datasetResolution.createMany({
    data: datasets.flatMap(({ id, facts }) =>
      facts.resolutions.map((each, position) => ({ ...each, datasetId: id, position })),
    ),
  });
}

export async function deleteParts(tx: Transaction, ids: readonly string[]): Promise<void> {
  const where = { datasetId: { in: [...ids] } };
  await tx.datasetOrgan.deleteMany({ where });
  await tx.datasetStain.deleteMany({ where });
  await tx.datasetResolution.deleteMany({ where });
}
