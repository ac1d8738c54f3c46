/** Relay connections over keyset pages: the same arguments, checks and shape for every list. */
import { DomainError } from '../errors.ts';

export const DEFAULT_PAGE_SIZE = 50;
export const MAX_PAGE_SIZE = 200;

export interface PageArguments {
  readonly first?: number | null | undefined;
  readonly after?: string | null | undefined;
}

/** One page from a store. `totalCount` is a function, so that it is computed only on request. */
export interface Page<Node> {
  readonly edges: readonly { readonly cursor: string; readonly node: Node }[];
  readonly pageInfo: {
    readonly hasNextPage: boolean;
    readonly hasPreviousPage: boolean;
    readonly startCursor: string | null;
    readonly endCursor: string | null;
  };
  readonly totalCount: () => Promise<number>;
}

/**
 * The checked page size, 1..200, default 50.
 * @throws DomainError BAD_INPUT with field `first`.
 */
export function pageSizeOf(page: PageArguments): number {
  const size = page.first ?? DEFAULT_PAGE_SIZE;
  if (Number.isInteger(size) && size >= 1 && size <= MAX_PAGE_SIZE) return size;
  throw new DomainError({
    code: 'BAD_INPUT',
    message: `first must be from 1 to ${MAX_PAGE_SIZE}, not ${size}.`,
    field: 'first',
    hint: `Leave it out for ${DEFAULT_PAGE_SIZE}, and use "after" for the next page.`,
  });
}

/** An opaque cursor over the sort key of one row. */
export function encodeCursor(key: readonly (string | number | null)[]): string {
  return Buffer.from(JSON.stringify(key)).toString('base64url');
}

/**
 * The sort key in a cursor, or undefined without one.
 * @param length the number of parts of this order's key.
 * @throws DomainError CURSOR_INVALID if the cursor does not belong to this list.
 */
export function decodeCursor(page: PageArguments, length: number): (string | number | null)[] | undefined {
  if (page.after === undefined || page.after === null) return undefined;
  try {
    const key: unknown = JSON.parse(Buffer.from(page.after, 'base64url').toString('utf8'));
    if (Array.isArray(key) && key.length === length && key.every(isKeyPart)) return key;
  } catch {
    // Falls through to the common error for invalid cursors.
  }
  throw cursorInvalid();
}

const UUID_PATTERN = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/**
 * The id in a cursor of a list that is ordered by id alone, or undefined without one.
 * @throws DomainError CURSOR_INVALID, also for a text that PostgreSQL does not accept as a uuid.
 */
export function decodeIdCursor(page: PageArguments): string | undefined {
  const [id] = decodeCursor(page, 1) ?? [];
  if (id === undefined) return undefined;
  if (typeof id === 'string' && UUID_PATTERN.test(id)) return id;
  throw cursorInvalid();
}

function cursorInvalid(): DomainError {
  return new DomainError({
    code: 'CURSOR_INVALID',
    message: '`after` is not a cursor of this list.',
    field: 'after',
    hint: 'Pass pageInfo.endCursor of the previous page, with the same filter and order.',
  });
}

function isKeyPart(part: unknown): part is string | number | null {
  return part === null || typeof part === 'string' || typeof part === 'number';
}

/** Makes a page of `size` from up to `size + 1` rows; the extra row shows that there is a next page. */
export function pageOf<Row>(
  rows: readonly Row[],
  size: number,
  cursorOf: (row: Row) => string,
  hasPreviousPage: boolean,
  totalCount: () => Promise<number>,
): Page<Row> {
  const edges = rows.slice(0, size).map((node) => ({ cursor: cursorOf(node), node }));
  return {
    edges,
    pageInfo: {
      hasNextPage: rows.length > size,
      hasPreviousPage,
      startCursor: edges.at(0)?.cursor ?? null,
      endCursor: edges.at(-1)?.cursor ?? null,
    },
    totalCount,
  };
}
