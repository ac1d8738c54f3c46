/** Reads the issues of an import page by page from the CSV that the import stored. */
import { CsvError, parse } from 'csv-parse/sync';
import { DomainError } from '../../errors.ts';
import { textOfCsvField } from '../../formats/csv.ts';
import type { ArtifactStore } from '../../platform/artifact-store/index.ts';
import { decodeCursor, encodeCursor, pageOf, pageSizeOf, type Page, type PageArguments } from '../../platform/page.ts';
import { authorise, type Viewer } from '../access/index.ts';
import type { DatasetVersionRecord, ImportIssueEntryRecord } from './datasets.records.ts';
import { listRangeOf } from './import-issues.rules.ts';

export interface ImportIssueService {
  /**
   * The issues in the order of the CSV: by kind, then in the order of discovery.
   * @param kind only issues of this kind; null for all.
   * @throws DomainError BAD_INPUT, CURSOR_INVALID, ARTIFACT_NOT_FOUND or ARTIFACT_CORRUPT.
   */
  list(
    viewer: Viewer,
    listed: Pick<DatasetVersionRecord, 'issues' | 'issueListSha256'>,
    page: PageArguments,
    kind: string | null,
  ): Promise<Page<ImportIssueEntryRecord>>;
}

/** Enough bytes for a page of the greatest size with paths of usual length; more are read if needed. */
const CHUNK_BYTES = 64 * 1024;

export function createImportIssueService({
  openArtifact,
}: {
  readonly openArtifact: ArtifactStore['open'];
}): ImportIssueService {
  return {
    list: async (viewer, listed, page, kind) => {
      authorise(viewer, 'READER');
      const size = pageSizeOf(page);
      const [madeFor, after] = decodeCursor(page, 2) ?? [];
      const range = listRangeOf(listed.issues, kind);
      const startByte = after === undefined ? range?.firstByte : after;
      const isOwnFormat =
        after === undefined ||
        (madeFor === (kind ?? '') &&
          range !== undefined &&
          Number.isInteger(after) &&
          Number(after) >= range.firstByte &&
          Number(after) <= range.endByte);
      if (!isOwnFormat)
        throw new DomainError({
          code: 'CURSOR_INVALID',
          message: '`after` is not a cursor of this list.',
          field: 'after',
          hint: 'Pass pageInfo.endCursor of the previous page, with the same kind.',
        });
      if (range === undefined || listed.issueListSha256 === null)
        return pageOf<ListedEntry>(
          [],
          size,
          () => '',
          false,
          () => Promise.resolve(0),
        );
      const sha256 = listed.issueListSha256;
      const readBytes: ReadBytes = async (first, endByte) =>
        bytesOf(await openArtifact(sha256, { first, last: endByte - 1 }));
      const entries = await readEntries(readBytes, Number(startByte), range.endByte, size + 1);
      return pageOf(
        entries,
        size,
        (entry) => encodeCursor([kind ?? '', entry.endByte]),
        after !== undefined,
        () => Promise.resolve(range.entryCount),
      );
    },
  };
}

/** The bytes from `firstByte` to `endByte`, exclusive. */
type ReadBytes = (firstByte: number, endByte: number) => Promise<Buffer>;

async function bytesOf(stream: AsyncIterable<Buffer>): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk);
  return Buffer.concat(chunks);
}

interface ListedEntry extends ImportIssueEntryRecord {
  /** Byte offset of its line in the whole file. */
  readonly endByte: number;
}

/** Up to `count` entries; the last entry of a chunk is dropped if the chunk may have cut it. */
async function readEntries(readBytes: ReadBytes, start: number, end: number, count: number): Promise<ListedEntry[]> {
  for (let chunkBytes = CHUNK_BYTES; ; chunkBytes *= 2) {
    const length = Math.min(chunkBytes, end - start);
    const bytes = length === 0 ? Buffer.alloc(0) : await readBytes(start, start + length);
    const isRest = length === end - start;
    const entries = entriesOf(bytes, start, isRest);
    if (isRest || entries.length >= count) return entries.slice(0, count);
  }
}

function entriesOf(bytes: Buffer, start: number, isRest: boolean): ListedEntry[] {
  const lines: { readonly fields: readonly string[]; readonly endByte: number }[] = [];
  try {
    parse(bytes, {
      record_delimiter: '\r\n',
      relax_column_count: true,
      on_record: (fields, info) => {
        lines.push({ fields: fields.map(textOfCsvField), endByte: info.bytes });
        return null;
      },
    });
  } catch (error) {
    // The chunk ends inside a quoted field.
    if (isRest || !(error instanceof CsvError)) throw error;
  }
  const whole = isRest ? lines : lines.filter(({ endByte }) => endByte < bytes.length);
  return whole.map(
    ({ fields: [kind = '', path = '', count = '', kept = '', reason = '', relatedPath = ''], endByte }) => ({
      ...{ kind, path, count: Number(count), kept: kept === 'true', reason },
      relatedPath: relatedPath === '' ? null : relatedPath,
      endByte: start + endByte,
    }),
  );
}
