/** The schema of a file in prisma/catalog, and its conversion into a row of the registry. Pure. */
import { z } from 'zod';
import type { FactEvidence } from '../../generated/prisma/enums.ts';
import { codeOf, SLUG_PATTERN } from './datasets.rules.ts';
import type { CatalogueDataset, FactSourceRecord, ResolutionRecord } from './datasets.records.ts';

/** Fields for which a row states evidence: the catalogue's name of each, with the API's name. */
export const FACT_FIELDS = {
  organs: 'organs',
  stains: 'stains',
  magnifications: 'resolutions.magnification',
  microns_per_pixel: 'resolutions.micronsPerPixel',
  image_kind: 'imageKind',
  image_count: 'imageCount',
  wsi_count: 'slideCount',
  pixel_size: 'imageSizeNote',
  classes: 'classNames',
  tasks: 'tasks',
  licence: 'licence',
  year: 'publishedYear',
  citation: 'citation',
  homepage: 'homepageUrl',
} as const;
type FactField = keyof typeof FACT_FIELDS;
const factField = z.enum([
  'organs',
  'stains',
  'magnifications',
  'microns_per_pixel',
  'image_kind',
  'image_count',
  'wsi_count',
  'pixel_size',
  'classes',
  'tasks',
  'licence',
  'year',
  'citation',
  'homepage',
]);

const text = z.string().trim().min(1);
const texts = z.array(text).refine((items) => new Set(items).size === items.length, 'must not repeat a value');
const positives = z.array(z.number().positive()).min(1);
const slug = z.string().regex(SLUG_PATTERN, 'must consist of lower-case words joined by hyphens');
const PROVENANCES = {
  'paper-table': 'PAPER_TABLE',
  'paper-text': 'PAPER_TEXT',
  'other-source': 'OTHER_SOURCE',
  candidate: 'CANDIDATE',
} as const;
const TASKS = {
  classification: 'CLASSIFICATION',
  segmentation: 'SEGMENTATION',
  detection: 'DETECTION',
  regression: 'REGRESSION',
  registration: 'REGISTRATION',
  retrieval: 'RETRIEVAL',
  survival: 'SURVIVAL',
} as const;
const EVIDENCE: Readonly<Record<'read' | 'recalled', FactEvidence>> = { read: 'READ', recalled: 'RECALLED' };

/** One file of prisma/catalog. An unknown value is null or left out, never a guess. */
export const catalogueRowSchema = z
  .strictObject({
    slug,
    name: text,
    provenance: z.enum(['paper-table', 'paper-text', 'other-source', 'candidate']),
    provenance_note: text,
    organs: texts.min(1),
    stains: texts.min(1),
    ihc_markers: texts.optional(),
    magnifications: positives.nullable(),
    /** `total`: the source states objective times eyepiece. */
    magnification_kind: z.enum(['objective', 'total']).default('objective'),
    /**
     * Where a source gives total magnifications and also names the objectives: one objective for each, in the same
     * order.
     */
    objective_magnifications: positives.optional(),
    microns_per_pixel: positives.nullable(),
    image_kind: z.enum(['PATCH', 'ROI', 'TMA', 'WSI']),
    image_count: z.number().int().positive().optional(),
    wsi_count: z.number().int().positive().optional(),
    pixel_size: text.optional(),
    classes: texts.optional(),
    tasks: z
      .array(
        z.enum(['classification', 'segmentation', 'detection', 'regression', 'registration', 'retrieval', 'survival']),
      )
      .min(1),
    licence: text.nullable(),
    year: z.number().int().min(1900).max(2100),
    citation: z.strictObject({
      authors: text.nullable(),
      title: text.nullable(),
      venue: text.nullable(),
      doi: text.nullable(),
      arxiv: text.nullable(),
    }),
    homepage: z.url({ protocol: /^https?$/ }),
    notes: text.optional(),
    paper_roles: texts.optional(),
    parent_collections: z.array(slug).optional(),
    subcollections: z
      .array(
        z.strictObject({
          slug,
          organ: text.optional(),
          slides: z.number().int().positive(),
          magnifications: positives.optional(),
          source: text,
        }),
      )
      .optional(),
    /** read: taken from the named source. recalled: from memory. null: the value itself is not known. */
    evidence: z.record(factField, z.enum(['read', 'recalled']).nullable()),
    field_sources: z.partialRecord(factField, texts.min(1)),
    source_urls: texts.min(1),
  })
  .superRefine((row, context) => {
    for (const field of factField.options) {
      const evidence = row.evidence[field] ?? null;
      const isKnown = (row[field] ?? null) !== null;
      const addIssue = (message: string): void =>
        context.addIssue({ code: 'custom', path: ['evidence', field], message });
      if (isKnown && evidence === null) addIssue('must be read or recalled if the value is given');
      if (!isKnown && evidence !== null) addIssue('must be null if the value is not known');
      if ((evidence === 'read') !== (row.field_sources[field] !== undefined))
        addIssue('must be read if and only if field_sources names the source');
    }
    const objectives = row.objective_magnifications;
    if (
      objectives !== undefined &&
      (row.magnification_kind !== 'total' || objectives.length !== row.magnifications?.length)
    ) {
      context.addIssue({
        code: 'custom',
        path: ['objective_magnifications'],
        message: 'must be as many as the total magnifications',
      });
    }
  });
export type CatalogueRow = z.infer<typeof catalogueRowSchema>;

/** Converts the file into a row of the registry. */
export function datasetOfRow(row: CatalogueRow): CatalogueDataset {
  return {
    slug: row.slug,
    name: row.name,
    description: null,
    provenance: PROVENANCES[row.provenance],
    provenanceNote: row.provenance_note,
    synthetic: false,
    imageKind: row.image_kind,
    imageCount: row.image_count ?? null,
    slideCount: row.wsi_count ?? null,
    imageSizeNote: row.pixel_size ?? null,
    classNames: row.classes ?? [],
    tasks: row.tasks.map((task) => TASKS[task]),
    ihcMarkers: row.ihc_markers ?? [],
    licence: row.licence,
    publishedYear: row.year,
    citation: row.citation,
    homepageUrl: row.homepage,
    notes: row.notes ?? null,
    paperRoles: row.paper_roles ?? [],
    parentCollections: row.parent_collections ?? [],
    subcollections: (row.subcollections ?? []).map((part) => ({
      slug: part.slug,
      organ: part.organ ?? null,
      slideCount: part.slides,
      magnifications: part.magnifications ?? [],
      source: part.source,
    })),
    sourceUrls: row.source_urls,
    organs: row.organs.map((name) => ({ code: codeOf(name), name })),
    stains: row.stains.map((name) => ({ code: codeOf(name), name })),
    resolutions: resolutionsOf(row),
    factSources: factField.options.flatMap((field) => factSourceOf(row, field)),
  };
}

/**
 * Magnifications and um/px as rows. They share a row only when there is exactly one of each, because only then is it
 * certain that they belong together. Total magnifications never replace the objective's.
 */
export function resolutionsOf(
  row: Pick<CatalogueRow, 'magnifications' | 'magnification_kind' | 'objective_magnifications' | 'microns_per_pixel'>,
): ResolutionRecord[] {
  const magnifications = (row.magnifications ?? []).map((value, index) =>
    row.magnification_kind === 'total'
      ? { magnification: row.objective_magnifications?.[index] ?? null, totalMagnification: value }
      : { magnification: value, totalMagnification: null },
  );
  const micronsPerPixel = row.microns_per_pixel ?? [];
  const [magnification] = magnifications;
  const [microns] = micronsPerPixel;
  if (
    magnifications.length === 1 &&
    micronsPerPixel.length === 1 &&
    magnification !== undefined &&
    microns !== undefined
  ) {
    return [{ ...magnification, micronsPerPixel: microns }];
  }
  return [
    ...magnifications.map((each) => ({ ...each, micronsPerPixel: null })),
    ...micronsPerPixel.map((value) => ({ magnification: null, totalMagnification: null, micronsPerPixel: value })),
  ];
}

function factSourceOf(row: CatalogueRow, field: FactField): FactSourceRecord[] {
  const evidence = row.evidence[field];
  if (evidence === null) return [];
  return [{ field: FACT_FIELDS[field], evidence: EVIDENCE[evidence], sourceUrls: row.field_sources[field] ?? [] }];
}
