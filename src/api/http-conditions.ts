/**
 * Conditional and range requests (RFC 9110, sections 13 and 14) for a representation with a strong ETag and no date.
 * Pure.
 */
import type { IncomingHttpHeaders } from 'node:http';

export interface ByteRange {
  readonly first: number;
  /** Inclusive. */
  readonly last: number;
}

/**
 * Evaluates If-Match and If-None-Match in the order of RFC 9110, 13.2.2, for GET and HEAD. Conditions on dates are
 * ignored, as the RFC requires where no modification date is known.
 */
export function evaluateConditions(
  headers: IncomingHttpHeaders,
  etag: string,
): 'SEND' | 'NOT_MODIFIED' | 'PRECONDITION_FAILED' {
  const ifMatch = headers['if-match'];
  // If-Match compares strongly: a weak tag never matches.
  if (ifMatch !== undefined && !(ifMatch.trim() === '*' || entityTags(ifMatch).includes(etag)))
    return 'PRECONDITION_FAILED';
  const ifNoneMatch = headers['if-none-match'];
  if (ifNoneMatch === undefined) return 'SEND';
  const isKnown = ifNoneMatch.trim() === '*' || entityTags(ifNoneMatch).some((tag) => tag.replace(/^W\//, '') === etag);
  return isKnown ? 'NOT_MODIFIED' : 'SEND';
}

/**
 * The requested range. WHOLE if there is no Range header, if it is invalid (`bytes=abc`, `bytes=5-2`, another unit:
 * RFC 9110, 14.2 says to ignore it), if it asks for several ranges (which a server may decline), or if If-Range names
 * another ETag.
 */
export function selectRange(
  headers: IncomingHttpHeaders,
  etag: string,
  byteSize: number,
): ByteRange | 'WHOLE' | 'UNSATISFIABLE' {
  const { range } = headers;
  const ifRange = headers['if-range'];
  if (range === undefined) return 'WHOLE';
  // Strong comparison; a date never matches, because the files have no modification date.
  if (typeof ifRange === 'string' && ifRange.trim() !== etag) return 'WHOLE';
  const [, firstText, lastText] = /^bytes=[ \t]*(\d*)-(\d*)[ \t]*$/i.exec(range.trim()) ?? [];
  if (firstText === undefined || lastText === undefined || (firstText === '' && lastText === '')) return 'WHOLE';
  if (firstText === '') {
    const length = Math.min(Number(lastText), byteSize);
    return length === 0 ? 'UNSATISFIABLE' : { first: byteSize - length, last: byteSize - 1 };
  }
  const first = Number(firstText);
  if (lastText !== '' && Number(lastText) < first) return 'WHOLE';
  if (first >= byteSize) return 'UNSATISFIABLE';
  return { first, last: lastText === '' ? byteSize - 1 : Math.min(Number(lastText), byteSize - 1) };
}

function entityTags(list: string): string[] {
  return [...list.matchAll(/(?:W\/)?"[\x21\x23-\x7e\x80-\xff]*"/g)].map(([tag]) => tag);
}
