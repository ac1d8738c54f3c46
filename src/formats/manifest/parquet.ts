/**
 * Reads manifest 2: flat Parquet with the columns of schema.ts, written by write.ts. Only the subset of Parquet that
 * the writer uses is accepted (pages of version 2; plain, dictionary and run-length encoding; Snappy or none), so that
 * everything that is decoded can be bounded first.
 */
import { parquetMetadata, parquetRead, type FileMetaData, type RowGroup } from 'hyparquet';
import type { RandomAccess } from '../random-access.ts';
import type { RawValues } from './columns.ts';
import { ManifestError } from './errors.ts';
import { checkPages } from './parquet-pages.ts';
import {
  columnNames,
  FORMAT_KEY,
  FORMAT_VERSION,
  schemaElementOf,
  MANIFEST_SCHEMA,
  type ColumnName,
} from './schema.ts';

/** First and last bytes of every Parquet file. */
export const PARQUET_MAGIC = 'PAR1';
const MAGIC_BYTES = 4;
const FOOTER_END_BYTES = MAGIC_BYTES + 4;

/** Ten million rows take 1 MB of footer. */
const FOOTER_BYTES_MAX = 64 * 1024 * 1024;
/** The writer makes groups of 65,536 rows. */
const ROW_GROUP_ROWS_MAX = 1024 * 1024;
/** Of one column in one row group, before compression: 65,536 paths of 4 KB. */
const CHUNK_BYTES_MAX = 512 * 1024 * 1024;

/** Rows of one row group, with the decoded values of each column that was asked for. */
export interface RawBlock {
  readonly firstRow: number;
  readonly rowCount: number;
  readonly values: ReadonlyMap<ColumnName, readonly RawValues[]>;
}

export interface RawManifest {
  readonly rowCount: number;
  readonly hasImageHashes: boolean;
  /** Blocks in the order of the file, from the one that holds `fromRow` on; blocks before it may come too. */
  blocks(names: readonly ColumnName[], fromRow: number): AsyncGenerator<RawBlock>;
}

/** @throws ManifestError for a file whose footer is not that of a manifest. */
export async function openParquetManifest(source: RandomAccess): Promise<RawManifest> {
  const footer = await readFooter(source);
  checkSchema(footer);
  const groups = footer.row_groups.map((group, index) => groupOf(group, index, source.byteSize));
  const rowCount = groups.reduce((sum, group) => sum + group.rowCount, 0);
  if (Number(footer.num_rows) !== rowCount)
    throw unreadable(`its footer states ${footer.num_rows} rows, and its row groups hold ${rowCount}`);
  return {
    rowCount,
    hasImageHashes: true,
    async *blocks(names, fromRow) {
      let endRow = 0;
      for (const group of groups) {
        const firstRow = endRow;
        endRow += group.rowCount;
        if (endRow <= fromRow) continue;
        const values = new Map<ColumnName, readonly RawValues[]>();
        for (const name of names) values.set(name, await readChunk(source, footer, group, name));
        yield { firstRow, rowCount: group.rowCount, values };
      }
    },
  };
}

async function readFooter(source: RandomAccess): Promise<FileMetaData> {
  const { byteSize } = source;
  const end = await source.read(Math.max(0, byteSize - FOOTER_END_BYTES), Math.min(byteSize, FOOTER_END_BYTES));
  if (end.length < FOOTER_END_BYTES || Buffer.from(end.subarray(4)).toString('latin1') !== PARQUET_MAGIC)
    throw unreadable('it does not end as a Parquet file does, so it is cut short');
  const footerBytes = new DataView(end.buffer, end.byteOffset).getUint32(0, true);
  if (footerBytes > byteSize - FOOTER_END_BYTES - MAGIC_BYTES)
    throw unreadable(`its footer of ${footerBytes} bytes does not fit into ${byteSize} bytes`);
  if (footerBytes > FOOTER_BYTES_MAX)
    throw new ManifestError('MANIFEST_TOO_LARGE', `The footer of the manifest states ${footerBytes} bytes.`);
  const bytes = await source.read(byteSize - FOOTER_END_BYTES - footerBytes, footerBytes + FOOTER_END_BYTES);
  try {
    return parquetMetadata(bytes, { geoparquet: false });
  } catch (cause) {
    throw unreadable('its footer does not parse', cause);
  }
}

function checkSchema({ schema, key_value_metadata: facts = [] }: FileMetaData): void {
  const version = facts.find(({ key }) => key === FORMAT_KEY)?.value;
  if (version !== FORMAT_VERSION)
    throw schemaUnknown(
      version === undefined
        ? 'it does not say that it is one'
        : `it is of version ${version}, and this program reads ${FORMAT_VERSION}`,
    );
  const [root, ...leaves] = schema;
  if (root?.num_children !== leaves.length) throw schemaUnknown('its columns are nested');
  for (const name of columnNames()) {
    const expected = schemaElementOf(name);
    const found = leaves.find((leaf) => leaf.name === name);
    if (found === undefined) throw schemaUnknown(`it has no column ${name}`);
    if (
      found.type !== expected.type ||
      found.type_length !== expected.type_length ||
      found.converted_type !== expected.converted_type ||
      found.repetition_type !== expected.repetition_type ||
      found.logical_type !== undefined
    )
      throw schemaUnknown(`its column ${name} is of another type`);
  }
}

interface Chunk {
  readonly start: number;
  readonly byteSize: number;
  readonly isCompressed: boolean;
}

interface Group {
  readonly rowCount: number;
  readonly parquet: RowGroup;
  readonly chunks: ReadonlyMap<string, Chunk>;
}

/** Bounds everything that the footer says about a row group. */
function groupOf(group: RowGroup, index: number, fileBytes: number): Group {
  const rowCount = Number(group.num_rows);
  if (!(rowCount > 0)) throw unreadable(`row group ${index} states ${rowCount} rows`);
  if (rowCount > ROW_GROUP_ROWS_MAX)
    throw new ManifestError('MANIFEST_TOO_LARGE', `Row group ${index} of the manifest states ${rowCount} rows.`);
  const chunks = new Map<string, Chunk>();
  for (const { meta_data: facts, file_path: filePath } of group.columns) {
    const name = facts?.path_in_schema.join('.');
    if (facts === undefined || name === undefined || filePath != null)
      throw unreadable(`row group ${index} has a column without its own data`);
    const start = Number(facts.dictionary_page_offset ?? facts.data_page_offset);
    const byteSize = Number(facts.total_compressed_size);
    if (!(start >= MAGIC_BYTES && byteSize >= 0 && start + byteSize <= fileBytes - FOOTER_END_BYTES))
      throw unreadable(`column ${name} of row group ${index} lies outside the file`);
    if (Number(facts.num_values) !== rowCount)
      throw unreadable(`column ${name} of row group ${index} has ${facts.num_values} values for ${rowCount} rows`);
    if (byteSize > CHUNK_BYTES_MAX || Number(facts.total_uncompressed_size) > CHUNK_BYTES_MAX)
      throw new ManifestError(
        'MANIFEST_TOO_LARGE',
        `Column ${name} of row group ${index} of the manifest is too large.`,
      );
    if (facts.codec !== 'SNAPPY' && facts.codec !== 'UNCOMPRESSED')
      throw schemaUnknown(`its column ${name} is compressed by ${facts.codec}`);
    chunks.set(name, { start, byteSize, isCompressed: facts.codec === 'SNAPPY' });
  }
  const missing = columnNames().find((name) => !chunks.has(name));
  if (missing !== undefined) throw unreadable(`row group ${index} has no column ${missing}`);
  return { rowCount, parquet: group, chunks };
}

async function readChunk(
  source: RandomAccess,
  footer: FileMetaData,
  { rowCount, parquet, chunks }: Group,
  name: ColumnName,
): Promise<RawValues[]> {
  const chunk = chunks.get(name);
  if (chunk === undefined) throw unreadable(`it has no column ${name}`);
  const bytes = await source.read(chunk.start, chunk.byteSize);
  if (bytes.length < chunk.byteSize) throw unreadable(`column ${name} is cut short`);
  const { kind, nullable, element } = MANIFEST_SCHEMA[name];
  const found: RawValues[] = [];
  try {
    checkPages(bytes, { rowCount, nullable, isCompressed: chunk.isCompressed, isBoolean: element.type === 'BOOLEAN' });
    await parquetRead({
      file: {
        byteLength: source.byteSize,
        slice: (start, end = source.byteSize) => {
          if (start < chunk.start || end > chunk.start + chunk.byteSize)
            throw new RangeError('A read outside its column.');
          return new Uint8Array(bytes.subarray(start - chunk.start, end - chunk.start)).buffer;
        },
      },
      metadata: { ...footer, num_rows: parquet.num_rows, row_groups: [parquet] },
      columns: [name],
      geoparquet: false,
      // Texts that are packed again stay bytes.
      ...(kind === 'TEXT' ? { parsers: { stringFromBytes: (value) => value } } : {}),
      onChunk: ({ columnData }) => found.push(columnData),
    });
  } catch (cause) {
    throw cause instanceof ManifestError ? cause : unreadable(`column ${name} does not decode`, cause);
  }
  const foundCount = found.reduce((sum, values) => sum + values.length, 0);
  if (foundCount !== rowCount) throw unreadable(`column ${name} holds ${foundCount} values for ${rowCount} rows`);
  return found;
}

function unreadable(what: string, cause?: unknown): ManifestError {
  return new ManifestError('MANIFEST_UNREADABLE', `The manifest cannot be read: ${what}.`, cause);
}

function schemaUnknown(what: string): ManifestError {
  return new ManifestError('MANIFEST_SCHEMA_UNKNOWN', `The Parquet file is not a manifest of Paraffin: ${what}.`);
}
