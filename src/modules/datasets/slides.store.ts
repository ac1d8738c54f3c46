/** Slides of dataset versions in PostgreSQL. */
import { Prisma } from '../../generated/prisma/client.ts';
import type { Database, Transaction } from '../../platform/db.ts';
import { decodeCursor, encodeCursor, pageOf, pageSizeOf, type Page, type PageArguments } from '../../platform/page.ts';
import { allOf, jsonRows } from '../../platform/sql.ts';
import type { ImportedSlide } from '../../protocol/imported-slide.ts';
import type { SlideRecord } from './datasets.records.ts';
import { cursorOfSlides, slideLevelsSchema, type SlideFilter } from './slides.rules.ts';

/** A row as PostgreSQL writes it in JSON. */
interface RowJson extends Omit<SlideRecord, 'levels' | 'micronsPerPixel'> {
  readonly levels: unknown;
  readonly micronsPerPixelX: number | null;
  readonly micronsPerPixelY: number | null;
  readonly micronsPerPixelSource: NonNullable<SlideRecord['micronsPerPixel']>['source'] | null;
  readonly micronsPerPixelProperty: string | null;
}

/** @param slides in the order of their positions. */
export async function insertSlides(
  tx: Transaction,
  datasetVersionId: string,
  slides: readonly ImportedSlide[],
): Promise<void> {
  await tx.slide.createMany({
    data: slides.map(({ file, facts, tissue, ...slide }, position) => ({
      ...{ datasetVersionId, position, ...slide },
      ...{ fileDigest: file?.sha256 ?? null, fileByteSize: file?.byteSize ?? null },
      ...{ vendor: facts?.vendor ?? null, objective: facts?.objective ?? null },
      levels: facts?.levels.map((level) => ({ ...level })) ?? [],
      micronsPerPixelX: facts?.micronsPerPixel?.x ?? null,
      micronsPerPixelY: facts?.micronsPerPixel?.y ?? null,
      micronsPerPixelSource: facts?.micronsPerPixel?.source ?? null,
      micronsPerPixelProperty: facts?.micronsPerPixel?.property ?? null,
      ...{ tissueFraction: tissue?.tissueFraction ?? null, penFraction: tissue?.penFraction ?? null },
      ...{ thumbnailSha256: tissue?.thumbnail.sha256 ?? null, tissueMaskSha256: tissue?.mask.sha256 ?? null },
    })),
  });
}

export type SlideStore = ReturnType<typeof createSlideStore>;

export function createSlideStore(db: Database) {
  return {
    find: async (versionId: string, position: number): Promise<SlideRecord | undefined> =>
      (
        await readSlides(
          db,
          Prisma.sql`"Slide" s WHERE s."datasetVersionId" = ${versionId}::uuid AND s.position = ${position}`,
        )
      ).at(0),

    /** Patches of the slides before this one. */
    patchesBefore: async (versionId: string, position: number): Promise<number> => {
      const sum = await db.slide.aggregate({
        where: { datasetVersionId: versionId, position: { lt: position } },
        _sum: { patchCount: true },
      });
      return sum._sum.patchCount ?? 0;
    },

    /** In the order of their paths. */
    list: async (versionId: string, page: PageArguments, filter: SlideFilter): Promise<Page<SlideRecord>> => {
      const size = pageSizeOf(page);
      const after = cursorOfSlides(decodeCursor(page, 2));
      const where = allOf([
        Prisma.sql`s."datasetVersionId" = ${versionId}::uuid`,
        ...(filter.status == null ? [] : [Prisma.sql`s.status = ${filter.status}::"SlideStatus"`]),
        ...(filter.label == null ? [] : [Prisma.sql`s.label = ${filter.label}`]),
        ...(filter.search == null ? [] : [Prisma.sql`strpos(lower(s.path), lower(${filter.search})) > 0`]),
      ]);
      const behind = after === undefined ? Prisma.empty : Prisma.sql`AND s.position > ${after}`;
      const rows = await readSlides(
        db,
        Prisma.sql`"Slide" s WHERE ${where} ${behind} ORDER BY s.position LIMIT ${size + 1}`,
      );
      return pageOf(
        rows,
        size,
        ({ position }) => encodeCursor(['SLIDE', position]),
        after !== undefined,
        async () => {
          const [counted] = await jsonRows<{ count: number }>(
            db,
            Prisma.sql`SELECT count(*)::int AS count FROM "Slide" s WHERE ${where}`,
          );
          return counted?.count ?? 0;
        },
      );
    },
  };
}

/** @param from everything of the SELECT after FROM, with the slides as "s". */
async function readSlides(db: Database, from: Prisma.Sql): Promise<SlideRecord[]> {
  const rows = await jsonRows<RowJson>(
    db,
    Prisma.sql`
    SELECT s."datasetVersionId" AS "versionId", s.position, s.path, s.status, s."issueKind", s.reason, s."fileDigest", s."fileByteSize", s.label, s."group", s.split, s.vendor, s.levels,
      s."micronsPerPixelX", s."micronsPerPixelY", s."micronsPerPixelSource", s."micronsPerPixelProperty", s.objective, s."patchCount", s."tissueFraction", s."penFraction", s."thumbnailSha256", s."tissueMaskSha256" FROM ${from}`,
  );
  return rows.map(toRecord);
}

function toRecord({
  micronsPerPixelX: x,
  micronsPerPixelY: y,
  micronsPerPixelSource: source,
  micronsPerPixelProperty: property,
  levels,
  ...row
}: RowJson): SlideRecord {
  const micronsPerPixel = x === null || y === null || source === null ? null : { x, y, source, property };
  return { ...row, levels: slideLevelsSchema.parse(levels), micronsPerPixel };
}
