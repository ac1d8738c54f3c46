/** Validation of a dataset's names and facts, and of the arguments of lists of datasets. Pure. */
import { createHash } from 'node:crypto';
import { z } from 'zod';
import { DomainError } from '../../errors.ts';
import { ImageKind, TaskKind, DatasetProvenance } from '../../generated/prisma/enums.ts';

export const SLUG_PATTERN = /^[a-z0-9]+(-[a-z0-9]+)*$/;
export const MAX_SLUG_LENGTH = 80;
/** The value for an unknown licence in filters and facets. */
export const UNKNOWN_LICENCE = 'UNKNOWN';

/** The code of an organ or a stain: `lymph node` gives LYMPH_NODE, `H&E` gives HE. */
export function codeOf(name: string): string {
  return asciiOf(name)
    .replaceAll('&', '')
    .toUpperCase()
    .replace(/[^A-Z0-9]+/g, '_')
    .replace(/^_|_$/g, '');
}

/** An ASCII slug for any name. A name without a usable letter becomes a short, stable hash. */
export function slugOf(name: string): string {
  const slug = asciiOf(name)
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .slice(0, MAX_SLUG_LENGTH)
    .replace(/^-|-$/g, '');
  return slug === '' ? `dataset-${createHash('sha256').update(name.normalize('NFC')).digest('hex').slice(0, 8)}` : slug;
}

function asciiOf(text: string): string {
  return text
    .replaceAll('ß', 'ss')
    .replaceAll(/[øØ]/g, 'o')
    .replaceAll(/[æÆ]/g, 'ae')
    .replaceAll(/[łŁ]/g, 'l')
    .normalize('NFKD')
    .replace(/\p{M}+/gu, '');
}

// PostgreSQL rejects NUL in text, and users do not enter the other control characters on purpose.
const line = (maxLength: number) =>
  z
    .string()
    .trim()
    .normalize('NFC')
    .min(1, 'must not be empty')
    .max(maxLength, `must have at most ${maxLength} characters`)
    .regex(/^\P{Cc}*$/u, 'must be one line without control characters');
const paragraph = (maxLength: number) =>
  z
    .string()
    .trim()
    .normalize('NFC')
    .min(1, 'must not be empty')
    .max(maxLength, `must have at most ${maxLength} characters`)
    .regex(/^[\P{Cc}\n\r\t]*$/u, 'must not contain control characters');
const lines = (maxLength: number) =>
  z
    .array(line(maxLength))
    .max(200, 'must have at most 200 entries')
    .refine((items) => new Set(items).size === items.length, 'must not repeat a value');
const count = z.number().int().min(0, 'must not be negative').max(2_147_483_647);
const httpUrl = z.url({ protocol: /^https?$/, error: 'must be an http or https address' }).max(2000);
const positive = (max: number) =>
  z.number({ error: 'must be a finite number' }).gt(0, 'must be greater than 0').max(max, `must be at most ${max}`);
const slugSchema = z
  .string()
  .regex(SLUG_PATTERN, 'must consist of lower-case words joined by hyphens, such as my-dataset')
  .max(MAX_SLUG_LENGTH, `must have at most ${MAX_SLUG_LENGTH} characters`);

const resolutionSchema = z
  .object({
    magnification: positive(1000).nullish(),
    totalMagnification: positive(10_000).nullish(),
    micronsPerPixel: positive(1000).nullish(),
  })
  .refine(
    (each) =>
      [each.magnification, each.totalMagnification, each.micronsPerPixel].some((value) => typeof value === 'number'),
    'must contain a magnification or micronsPerPixel',
  )
  .transform((each) => ({
    magnification: each.magnification ?? null,
    totalMagnification: each.totalMagnification ?? null,
    micronsPerPixel: each.micronsPerPixel ?? null,
  }));

const citationSchema = z
  .object({
    authors: line(2000).nullish(),
    title: line(1000).nullish(),
    venue: line(1000).nullish(),
    doi: z
      .string()
      .regex(/^10\.\d{4,9}\/\S+$/, 'must be a DOI such as 10.1000/182')
      .max(300)
      .nullish(),
    arxiv: line(40).nullish(),
  })
  .transform((each) => ({
    authors: each.authors ?? null,
    title: each.title ?? null,
    venue: each.venue ?? null,
    doi: each.doi ?? null,
    arxiv: each.arxiv ?? null,
  }));

/** Lists may be left out but not be null; single facts may be null, which says that they are not known. */
const factsShape = {
  description: paragraph(10_000).nullish(),
  organs: lines(100).optional(),
  stains: lines(100).optional(),
  resolutions: z.array(resolutionSchema).max(50, 'must have at most 50 entries').optional(),
  imageCount: count.nullish(),
  slideCount: count.nullish(),
  imageSizeNote: line(200).nullish(),
  classNames: lines(200).optional(),
  tasks: z
    .array(z.enum(TaskKind))
    .refine((items) => new Set(items).size === items.length, 'must not repeat a value')
    .optional(),
  ihcMarkers: lines(100).optional(),
  licence: line(300)
    .refine((text) => text.toUpperCase() !== UNKNOWN_LICENCE, 'must be null if the licence is not known')
    .nullish(),
  publishedYear: z.number().int().min(1900, 'must be 1900 or later').max(2100, 'must be 2100 or earlier').nullish(),
  citation: citationSchema.nullish(),
  homepageUrl: httpUrl.nullish(),
  notes: paragraph(10_000).nullish(),
  parentCollections: z.array(slugSchema).max(100).optional(),
};

/** `CreateDatasetInput` with its lengths and ranges. */
export const createDatasetSchema = z.object({
  name: line(200),
  slug: slugSchema.nullish(),
  ...factsShape,
  imageKind: z.enum(ImageKind),
  synthetic: z.boolean(),
});
export type CreateDatasetInput = z.infer<typeof createDatasetSchema>;

/** `UpdateDatasetInput`: omitted fields stay as they were; null makes a single fact unknown. */
export const updateDatasetSchema = z.object({
  id: z.string(),
  name: line(200).optional(),
  ...factsShape,
  imageKind: z.enum(ImageKind).optional(),
  synthetic: z.boolean().optional(),
});
export type UpdateDatasetInput = z.infer<typeof updateDatasetSchema>;

const range = (max: number) =>
  z
    .object({ min: positive(max).nullish(), max: positive(max).nullish() })
    .refine((each) => typeof each.min !== 'number' || typeof each.max !== 'number' || each.min <= each.max, {
      path: ['min'],
      message: 'must not exceed max',
    })
    .transform((each) => ({ min: each.min ?? null, max: each.max ?? null }));
const anyOf = <Item extends z.ZodType>(item: Item) => z.array(item).max(100, 'must have at most 100 entries').nullish();

/**
 * `DatasetFilter`: a dataset must match every given part. It matches a list if it has any of the values; an empty list
 * counts as left out.
 */
export const datasetFilterSchema = z.object({
  search: z
    .string()
    .trim()
    .max(200, 'must have at most 200 characters')
    .regex(/^\P{Cc}*$/u, 'must not contain control characters')
    .nullish(),
  organs: anyOf(line(100)),
  stains: anyOf(line(100)),
  imageKinds: anyOf(z.enum(ImageKind)),
  tasks: anyOf(z.enum(TaskKind)),
  licences: anyOf(line(300)),
  provenances: anyOf(z.enum(DatasetProvenance)),
  magnification: range(1000).nullish(),
  micronsPerPixel: range(1000).nullish(),
  hasVersions: z.boolean().nullish(),
  synthetic: z.boolean().nullish(),
});
export type DatasetFilter = z.infer<typeof datasetFilterSchema>;
export interface NumberRange {
  readonly min: number | null;
  readonly max: number | null;
}

export const DATASET_ORDER_FIELDS = ['NAME', 'IMAGE_COUNT', 'PUBLISHED_YEAR', 'CREATED_AT', 'RELEVANCE'] as const;
export type DatasetOrderField = (typeof DATASET_ORDER_FIELDS)[number];
export const ORDER_DIRECTIONS = ['ASC', 'DESC'] as const;
export interface DatasetOrder {
  readonly field: DatasetOrderField;
  readonly direction: (typeof ORDER_DIRECTIONS)[number];
}

/**
 * The default order of a list: by name, or the best match first if there is a search.
 * @throws DomainError BAD_INPUT for RELEVANCE without a search.
 */
export function orderOf(
  order:
    | { readonly field: DatasetOrderField; readonly direction?: DatasetOrder['direction'] | null | undefined }
    | null
    | undefined,
  filter: DatasetFilter,
): DatasetOrder {
  const isSearch = searchOf(filter) !== undefined;
  if (order === null || order === undefined)
    return isSearch ? { field: 'RELEVANCE', direction: 'DESC' } : { field: 'NAME', direction: 'ASC' };
  if (order.field === 'RELEVANCE' && !isSearch) {
    throw new DomainError({
      code: 'BAD_INPUT',
      message: 'orderBy.field RELEVANCE needs a search.',
      field: 'orderBy.field',
      hint: 'Give filter.search, or order by another field.',
    });
  }
  return { field: order.field, direction: order.direction ?? (order.field === 'RELEVANCE' ? 'DESC' : 'ASC') };
}

/** A search in the form that PostgreSQL takes. */
export interface DatasetSearch {
  /** For websearch_to_tsquery: words, "phrases", or, -not. */
  readonly whole: string;
  /** The complete words, and the last word, which may be unfinished; null if the search contains operators. */
  readonly typed: { readonly before: string; readonly prefix: string } | null;
  /** A LIKE pattern for the beginning of a slug. */
  readonly slugPattern: string;
}

/** Undefined without anything to search for. */
export function searchOf(filter: Pick<DatasetFilter, 'search'>): DatasetSearch | undefined {
  const whole = filter.search ?? '';
  if (whole === '') return undefined;
  // Quotes, a minus before a word, and OR are operators of websearch; adding a prefix match would cancel their effect.
  const isPlain = !/"|(^|\s)-|\sor\s/i.test(whole);
  const match = isPlain ? /^(?<before>.*?)(?<prefix>[\p{L}\p{N}]{2,})$/u.exec(whole) : null;
  const typed =
    match?.groups === undefined ? null : { before: match.groups['before'] ?? '', prefix: match.groups['prefix'] ?? '' };
  return { whole, typed, slugPattern: `${whole.toLowerCase().replace(/[\\%_]/g, '\\$&')}%` };
}

interface Coded {
  readonly code: string;
  readonly name: string;
}

/**
 * Resolves user input to known organs or stains: codes or names, case-insensitive.
 * @throws DomainError BAD_INPUT with field `<field>.<index>` and the known ones in its hint.
 */
export function resolveCoded<Known extends Coded>(
  written: readonly string[],
  known: readonly Known[],
  noun: string,
  field: string,
): Known[] {
  const byKey = new Map(
    known.flatMap((each) => [[each.name.toLowerCase(), each] as const, [each.code.toLowerCase(), each] as const]),
  );
  const resolved = written.map((text, index) => {
    const found = byKey.get(text.toLowerCase());
    if (found !== undefined) return found;
    throw new DomainError({
      code: 'BAD_INPUT',
      message: `${field}.${index} "${text}" is not a known ${noun}.`,
      field: `${field}.${index}`,
      hint: `Known: ${known
        .map((each) => each.code)
        .sort()
        .join(', ')}.`,
    });
  });
  return [...new Set(resolved)];
}

/**
 * Parses the input with its schema.
 * @throws DomainError BAD_INPUT with the dotted path of the first fault under `root`, and the other faults in the hint.
 */
export function parseInput<Output>(schema: z.ZodType<Output>, input: unknown, root: string): Output {
  const parsed = schema.safeParse(input);
  if (parsed.success) return parsed.data;
  const faults = parsed.error.issues.map((issue) => ({
    field: [root, ...issue.path].join('.'),
    message: issue.message,
  }));
  const [first, ...others] = faults;
  if (first === undefined) throw parsed.error;
  throw new DomainError({
    code: 'BAD_INPUT',
    message: `${first.field} ${/^must /.test(first.message) ? first.message : `is not valid: ${first.message}`}.`,
    field: first.field,
    hint:
      others.length === 0
        ? 'Change it and send the request again.'
        : `Also: ${others.map((fault) => `${fault.field} ${fault.message}`).join('; ')}.`,
  });
}
