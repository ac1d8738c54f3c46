/** Lists of datasets and their facets: one SQL statement for each, organs, stains and resolutions included. */
import { Prisma } from '../../generated/prisma/client.ts';
import { DomainError } from '../../errors.ts';
import type { Database, Transaction } from '../../platform/db.ts';
import { decodeCursor, encodeCursor, pageOf, pageSizeOf, type Page, type PageArguments } from '../../platform/page.ts';
import type { DatasetFacetsRecord, DatasetRecord, FacetCountRecord } from './datasets.records.ts';
import { isId } from '../../input.ts';
import {
  searchOf,
  UNKNOWN_LICENCE,
  type DatasetFilter,
  type DatasetOrder,
  type DatasetOrderField,
  type DatasetSearch,
  type NumberRange,
} from './datasets.rules.ts';

/** A `DatasetRecord` as PostgreSQL writes it in JSON: instants are text. */
interface RowJson extends Omit<DatasetRecord, 'createdAt' | 'updatedAt' | 'editedAt'> {
  readonly createdAt: string;
  readonly updatedAt: string;
  readonly editedAt: string | null;
  readonly sortKey: string | number | null;
}
interface Row {
  readonly record: DatasetRecord;
  readonly sortKey: string | number | null;
}

/**
 * Whole records in one statement. Organs, stains and resolutions are subqueries of each row: joined for the whole page,
 * PostgreSQL would scan their whole tables. The page comes as one JSON value, because decoding 30 columns of 50 rows
 * would cost the driver more than the query costs the database.
 * @param keys a SELECT of "id" and "sortKey".
 */
async function readRows(tx: Transaction, keys: Prisma.Sql, direction: DatasetOrder['direction']): Promise<Row[]> {
  const order = direction === 'ASC' ? Prisma.sql`ASC` : Prisma.sql`DESC`;
  const [answer] = await tx.$queryRaw<{ rows: string }[]>`
    WITH k AS MATERIALIZED (${keys})
    SELECT coalesce(json_agg(t ORDER BY t."sortKey" ${order}, t.id ${order}), '[]')::text AS rows FROM (
      SELECT d.id, d.slug, d.name, d.description, d.provenance, d."provenanceNote", d.synthetic, d."imageKind", d."imageCount", d."slideCount", d."imageSizeNote",
        d."classNames", d.tasks, d."ihcMarkers", d.licence, d."publishedYear", d.citation, d."homepageUrl", d.notes, d."paperRoles",
        coalesce(d.subcollections, '[]') AS subcollections, coalesce(d."parentCollections", '{}') AS "parentCollections", d."sourceUrls",
        d."createdAt", d."updatedAt", d."editedAt", k."sortKey",
        coalesce((SELECT json_agg(json_build_object('code', o.code, 'name', o.name) ORDER BY o.name)
          FROM "DatasetOrgan" x JOIN "Organ" o ON o.code = x."organCode" WHERE x."datasetId" = d.id), '[]') AS organs,
        coalesce((SELECT json_agg(json_build_object('code', s.code, 'name', s.name) ORDER BY s.name)
          FROM "DatasetStain" x JOIN "Stain" s ON s.code = x."stainCode" WHERE x."datasetId" = d.id), '[]') AS stains,
        coalesce((SELECT json_agg(json_build_object('magnification', r.magnification, 'totalMagnification', r."totalMagnification", 'micronsPerPixel', r."micronsPerPixel") ORDER BY r.position)
          FROM "DatasetResolution" r WHERE r."datasetId" = d.id), '[]') AS resolutions
      FROM k JOIN "Dataset" d ON d.id = k.id
    ) t`;
  const rows: RowJson[] = JSON.parse(answer?.rows ?? '[]');
  return rows.map((row) => {
    const { sortKey, createdAt, updatedAt, editedAt } = row;
    // The record is filled in place: copying 30 fields of each row would take a tenth of the whole request.
    const instants = {
      createdAt: new Date(createdAt),
      updatedAt: new Date(updatedAt),
      editedAt: editedAt === null ? null : new Date(editedAt),
    };
    return { sortKey, record: Object.assign<Omit<RowJson, keyof typeof instants>, typeof instants>(row, instants) };
  });
}

/** The dataset with this id or slug; with both, if both are given and agree. */
export async function findDataset(
  tx: Transaction,
  by: { readonly id?: string | undefined; readonly slug?: string | undefined },
): Promise<DatasetRecord | undefined> {
  const conditions = [
    ...(by.id === undefined ? [] : [Prisma.sql`d.id = ${by.id}::uuid`]),
    ...(by.slug === undefined ? [] : [Prisma.sql`d.slug = ${by.slug}`]),
  ];
  if (conditions.length === 0) return undefined;
  const [row] = await readRows(
    tx,
    Prisma.sql`SELECT d.id, NULL::text AS "sortKey" FROM "Dataset" d WHERE ${Prisma.join(conditions, ' AND ')}`,
    'ASC',
  );
  return row?.record;
}

export async function findDatasets(db: Database, ids: readonly string[]): Promise<DatasetRecord[]> {
  const rows = await readRows(
    db,
    Prisma.sql`SELECT d.id, NULL::text AS "sortKey" FROM "Dataset" d WHERE d.id = ANY(${[...ids]}::uuid[])`,
    'ASC',
  );
  return rows.map((row) => row.record);
}

/**
 * One page, keyed by (sort key, id): stable while rows come and go. Unknown values come last in either direction.
 * @param filter with organs and stains as codes.
 * @throws DomainError CURSOR_INVALID for a cursor of another order.
 */
export async function listDatasets(
  db: Database,
  page: PageArguments,
  filter: DatasetFilter,
  order: DatasetOrder,
): Promise<Page<DatasetRecord>> {
  const size = pageSizeOf(page);
  const search = searchOf(filter);
  // A rank has no meaning under another search.
  const orderName = `${order.field} ${order.direction}${order.field === 'RELEVANCE' ? ` ${search?.whole ?? ''}` : ''}`;
  const after = afterOf(page, order.field, orderName);
  const where = allOf(Object.values(conditionsOf(filter)));
  const key = sortKeyOf(order, search);
  const direction = order.direction === 'ASC' ? Prisma.sql`ASC` : Prisma.sql`DESC`;
  const keys = Prisma.sql`
    SELECT d.id, ${asCursorKey(order.field, key)} AS "sortKey" FROM "Dataset" d WHERE ${where} ${after === undefined ? Prisma.empty : Prisma.sql`AND ${comesAfterCursor(order, key, after)}`}
    ORDER BY ${key} ${direction}, d.id ${direction} LIMIT ${size + 1}`;
  const rows = await readRows(db, keys, order.direction);
  const totalCount = async (): Promise<number> => {
    const [counted] = await db.$queryRaw<
      { count: number }[]
    >`SELECT count(*)::int AS count FROM "Dataset" d WHERE ${where}`;
    return counted?.count ?? 0;
  };
  const keyOf = new Map(rows.map((row) => [row.record, row.sortKey]));
  return pageOf(
    rows.map((row) => row.record),
    size,
    (record) => encodeCursor([orderName, keyOf.get(record) ?? null, record.id]),
    after !== undefined,
    totalCount,
  );
}

interface After {
  readonly key: string | number | null;
  readonly id: string;
}

function afterOf(page: PageArguments, field: DatasetOrderField, orderName: string): After | undefined {
  const cursor = decodeCursor(page, 3);
  if (cursor === undefined) return undefined;
  const [madeFor, key = null, id] = cursor;
  if (madeFor === orderName && typeof id === 'string' && isId(id) && isKeyOf(field, key)) return { key, id };
  throw new DomainError({
    code: 'CURSOR_INVALID',
    message: '`after` is not a cursor of this list and order.',
    field: 'after',
    hint: 'Keep filter and orderBy unchanged between pages, or start again without `after`.',
  });
}

/**
 * Whether a cursor's key has the type that this order requires; without this check a forged cursor would cause a
 * PostgreSQL error.
 */
function isKeyOf(field: DatasetOrderField, key: string | number | null): boolean {
  switch (field) {
    case 'NAME':
      return typeof key === 'string' && /^\P{Cc}*$/u.test(key);
    case 'CREATED_AT':
      return (
        typeof key === 'string' &&
        /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/.test(key) &&
        !Number.isNaN(Date.parse(key))
      );
    case 'IMAGE_COUNT':
    case 'PUBLISHED_YEAR':
      return Number.isInteger(key) && Math.abs(Number(key)) < 2 ** 31;
    case 'RELEVANCE':
      return typeof key === 'number';
  }
}

/**
 * The sort key, never null, written exactly as in the indexes of the migration "list indexes", so that PostgreSQL reads
 * any page from an index. An unknown value sorts after all others in either direction.
 */
function sortKeyOf({ field, direction }: DatasetOrder, search: DatasetSearch | undefined): Prisma.Sql {
  const unknown = direction === 'ASC' ? Prisma.sql`2147483647` : Prisma.sql`-1`;
  switch (field) {
    case 'NAME':
      return Prisma.sql`lower(d.name)`;
    case 'IMAGE_COUNT':
      return Prisma.sql`coalesce(d."imageCount", ${unknown})`;
    case 'PUBLISHED_YEAR':
      return Prisma.sql`coalesce(d."publishedYear", ${unknown})`;
    case 'CREATED_AT':
      return Prisma.sql`d."createdAt"`;
    case 'RELEVANCE':
      return search === undefined
        ? Prisma.sql`0::float8`
        : Prisma.sql`ts_rank(d."searchVector", ${tsQueryOf(search)})::float8`;
  }
}

/** The key as a cursor holds it: an instant is text in UTC, which sorts as instants do and loses no precision. */
function asCursorKey(field: DatasetOrderField, key: Prisma.Sql): Prisma.Sql {
  return field === 'CREATED_AT' ? Prisma.sql`to_char(${key} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')` : key;
}

/** Rows that come after the cursor's. */
function comesAfterCursor({ field, direction }: DatasetOrder, key: Prisma.Sql, after: After): Prisma.Sql {
  const beyond = direction === 'ASC' ? Prisma.sql`>` : Prisma.sql`<`;
  const type =
    field === 'NAME'
      ? Prisma.sql`text`
      : field === 'CREATED_AT'
        ? Prisma.sql`timestamptz`
        : field === 'RELEVANCE'
          ? Prisma.sql`float8`
          : Prisma.sql`int`;
  return Prisma.sql`(${key}, d.id) ${beyond} (${after.key}::${type}, ${after.id}::uuid)`;
}

function tsQueryOf(search: DatasetSearch): Prisma.Sql {
  const whole = Prisma.sql`websearch_to_tsquery('english', ${search.whole})`;
  if (search.typed === null) return whole;
  return Prisma.sql`(${whole} || (websearch_to_tsquery('english', ${search.typed.before}) && to_tsquery('simple', ${`${search.typed.prefix.toLowerCase()}:*`})))`;
}

const FACETS = [
  'organs',
  'stains',
  'imageKinds',
  'tasks',
  'licences',
  'provenances',
  'magnification',
  'micronsPerPixel',
] as const;
type Facet = (typeof FACETS)[number];
type Conditions = Record<Facet | 'others', Prisma.Sql>;
const ANYTHING = Prisma.sql`TRUE`;

/** The filter as SQL over "d", one part per facet, so that a facet's counts can leave out their own part. */
function conditionsOf(filter: DatasetFilter): Conditions {
  const search = searchOf(filter);
  const others = [
    search === undefined
      ? ANYTHING
      : Prisma.sql`(d."searchVector" @@ ${tsQueryOf(search)} OR d.slug LIKE ${search.slugPattern})`,
    typeof filter.hasVersions !== 'boolean'
      ? ANYTHING
      : Prisma.sql`EXISTS (SELECT 1 FROM "DatasetVersion" v WHERE v."datasetId" = d.id AND v.status = 'SEALED') = ${filter.hasVersions}`,
    typeof filter.synthetic !== 'boolean' ? ANYTHING : Prisma.sql`d.synthetic = ${filter.synthetic}`,
  ];
  return {
    others: allOf(others),
    organs: given(
      filter.organs,
      (codes) =>
        Prisma.sql`EXISTS (SELECT 1 FROM "DatasetOrgan" x WHERE x."datasetId" = d.id AND x."organCode" = ANY(${codes}))`,
    ),
    stains: given(
      filter.stains,
      (codes) =>
        Prisma.sql`EXISTS (SELECT 1 FROM "DatasetStain" x WHERE x."datasetId" = d.id AND x."stainCode" = ANY(${codes}))`,
    ),
    imageKinds: given(filter.imageKinds, (kinds) => Prisma.sql`d."imageKind"::text = ANY(${kinds})`),
    tasks: given(filter.tasks, (tasks) => Prisma.sql`d.tasks::text[] && ${tasks}::text[]`),
    licences: given(
      filter.licences,
      (licences) => Prisma.sql`coalesce(d.licence, ${UNKNOWN_LICENCE}) = ANY(${licences})`,
    ),
    provenances: given(filter.provenances, (provenances) => Prisma.sql`d.provenance::text = ANY(${provenances})`),
    magnification: inRange(filter.magnification, Prisma.sql`r.magnification`),
    micronsPerPixel: inRange(filter.micronsPerPixel, Prisma.sql`r."micronsPerPixel"`),
  };
}

function given<Item>(items: readonly Item[] | null | undefined, condition: (items: Item[]) => Prisma.Sql): Prisma.Sql {
  return items === null || items === undefined || items.length === 0 ? ANYTHING : condition([...items]);
}

function inRange(range: NumberRange | null | undefined, column: Prisma.Sql): Prisma.Sql {
  if (range === null || range === undefined || (range.min === null && range.max === null)) return ANYTHING;
  const low = range.min === null ? ANYTHING : Prisma.sql`${column} >= ${range.min}`;
  const high = range.max === null ? ANYTHING : Prisma.sql`${column} <= ${range.max}`;
  return Prisma.sql`EXISTS (SELECT 1 FROM "DatasetResolution" r WHERE r."datasetId" = d.id AND ${column} IS NOT NULL AND ${low} AND ${high})`;
}

function allOf(conditions: readonly Prisma.Sql[]): Prisma.Sql {
  return Prisma.join(conditions.filter((condition) => condition !== ANYTHING).concat(ANYTHING), ' AND ');
}

/** The name of the column that states whether a row matches this part of the filter. */
function flagOf(facet: Facet): Prisma.Sql {
  return Prisma.raw(`"is_${facet}"`);
}

/** Common bounds in um/px: those of 40x, 20x, 10x, 5x and 2.5x on common scanners. */
const MICRONS_PER_PIXEL_BOUNDS = [0.25, 0.5, 1, 2, 4] as const;

/**
 * Counts for each facet. A facet ignores its own part of the filter, so that the values beside the chosen ones show the
 * result of choosing them too; all other parts apply. Parts that are not given are left out of the SQL: PostgreSQL
 * assumes that each condition removes half of the rows, and would plan for almost none.
 */
export async function countFacets(db: Database, filter: DatasetFilter): Promise<DatasetFacetsRecord> {
  const { others, ...is } = conditionsOf(filter);
  const parts = FACETS.filter((facet) => is[facet] !== ANYTHING);
  const kept = Prisma.join([
    Prisma.sql`d.id, d."imageKind", d.tasks, d.licence, d.provenance`,
    ...parts.map((facet) => Prisma.sql`${is[facet]} AS ${flagOf(facet)}`),
  ]);
  const holds = (except?: Facet): Prisma.Sql =>
    allOf(parts.filter((facet) => facet !== except).map((facet) => Prisma.sql`d.${flagOf(facet)}`));
  const rows = await db.$queryRaw<(FacetCountRecord & { readonly facet: Facet | 'all' })[]>`
    WITH d AS MATERIALIZED (SELECT ${kept} FROM "Dataset" d WHERE ${others})
    SELECT 'all' AS facet, '' AS value, '' AS name, count(*)::int AS count FROM d WHERE ${holds()}
    UNION ALL SELECT 'organs', o.code, o.name, count(*)::int FROM d JOIN "DatasetOrgan" x ON x."datasetId" = d.id JOIN "Organ" o ON o.code = x."organCode"
      WHERE ${holds('organs')} GROUP BY o.code
    UNION ALL SELECT 'stains', s.code, s.name, count(*)::int FROM d JOIN "DatasetStain" x ON x."datasetId" = d.id JOIN "Stain" s ON s.code = x."stainCode"
      WHERE ${holds('stains')} GROUP BY s.code
    UNION ALL SELECT 'imageKinds', "imageKind"::text, "imageKind"::text, count(*)::int FROM d WHERE ${holds('imageKinds')} GROUP BY "imageKind"
    UNION ALL SELECT 'tasks', task::text, task::text, count(*)::int FROM (SELECT unnest(tasks) AS task FROM d WHERE ${holds('tasks')}) each GROUP BY task
    UNION ALL SELECT 'licences', coalesce(licence, ${UNKNOWN_LICENCE}), coalesce(licence, 'not known'), count(*)::int FROM d WHERE ${holds('licences')} GROUP BY licence
    UNION ALL SELECT 'provenances', provenance::text, provenance::text, count(*)::int FROM d WHERE ${holds('provenances')} GROUP BY provenance
    UNION ALL SELECT 'magnification', magnification::text, magnification::text || 'x', count(*)::int
      FROM (SELECT DISTINCT d.id, r.magnification FROM d JOIN "DatasetResolution" r ON r."datasetId" = d.id WHERE r.magnification IS NOT NULL AND ${holds('magnification')}) each GROUP BY magnification
    UNION ALL SELECT 'micronsPerPixel', bound::text, bound::text || ' or finer', count
      FROM (
        SELECT unnest(${[...MICRONS_PER_PIXEL_BOUNDS]}::float8[]) AS bound, unnest(ARRAY[${Prisma.join(MICRONS_PER_PIXEL_BOUNDS.map((bound) => Prisma.sql`count(*) FILTER (WHERE finest <= ${bound}::float8)`))}])::int AS count
        FROM (SELECT min(r."micronsPerPixel") AS finest FROM d JOIN "DatasetResolution" r ON r."datasetId" = d.id WHERE ${holds('micronsPerPixel')} GROUP BY d.id) each) bounded
      WHERE count > 0
    ORDER BY facet, count DESC, name`;
  const of = (facet: Facet): FacetCountRecord[] =>
    rows.filter((row) => row.facet === facet).map(({ value, name, count }) => ({ value, name, count }));
  return {
    datasetCount: rows.find((row) => row.facet === 'all')?.count ?? 0,
    organs: of('organs'),
    stains: of('stains'),
    imageKinds: of('imageKinds'),
    tasks: of('tasks'),
    licences: of('licences'),
    provenances: of('provenances'),
    magnifications: of('magnification').sort((a, b) => Number(a.value) - Number(b.value)),
    micronsPerPixelBounds: of('micronsPerPixel').sort((a, b) => Number(a.value) - Number(b.value)),
  };
}
