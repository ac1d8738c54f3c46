/** Columns of a manifest in memory: typed arrays, and texts without a string object for each row. */
import { ManifestError } from './errors.ts';
import { MANIFEST_SCHEMA, PERCEPTUAL_HASH_BYTES, PIXEL_DIGEST_BYTES, type ColumnName } from './schema.ts';

/** Texts that mostly differ from each other. */
export interface TextColumn {
  readonly length: number;
  /** Null for an unknown text. Decodes it anew each time. */
  at(row: number): string | null;
}

/** Texts of few different values. */
export interface CodedColumn extends TextColumn {
  /** Every different text once, in the order of its first row. */
  readonly values: readonly string[];
  /** For each row an index into `values`; -1 for null. */
  readonly codes: Int32Array;
}

/** All have one entry for each row, unless a shape is given. Numbers that are unknown are NaN. */
export interface ManifestColumns {
  readonly key: TextColumn;
  /** `[N, 32]` */
  readonly pixelDigest: Uint8Array;
  /** `[N, 8]` */
  readonly perceptualHash: Uint8Array;
  readonly label: CodedColumn;
  readonly group: CodedColumn;
  readonly split: CodedColumn;
  readonly width: Uint32Array;
  readonly height: Uint32Array;
  readonly mediaType: CodedColumn;
  readonly shard: Uint32Array;
  readonly byteOffset: Float64Array;
  readonly byteLength: Uint32Array;
  readonly sourcePath: TextColumn;
  readonly tissueFraction: Float64Array;
  readonly slide: CodedColumn;
  readonly x: Float64Array;
  readonly y: Float64Array;
  readonly level0Width: Float64Array;
  readonly level0Height: Float64Array;
  readonly micronsPerPixel: Float64Array;
  readonly maskOffset: Float64Array;
  readonly maskLength: Float64Array;
  readonly sourceWidth: Float64Array;
  readonly sourceHeight: Float64Array;
  readonly sourceProfileSha256: CodedColumn;
  /** 1: yes, 0: no, NaN: unknown. */
  readonly profileChangedPixels: Float64Array;
}

/** Decoded values of one column for some rows, as a file holds them. */
export type RawValues = ArrayLike<unknown>;

export interface ColumnBuilder {
  /**
   * Stores values at `start`, `start + 1` and so on of the column; calls come in order.
   * @param rowInFile the number of the first value's row in the file, for messages. It differs from `start` where a
   * file is read in blocks.
   * @throws ManifestError MANIFEST_ROW_INVALID for a value that the column cannot have.
   */
  fill(start: number, values: RawValues, rowInFile: number): void;
}

export interface ColumnBuilders {
  readonly of: Readonly<Record<ColumnName, ColumnBuilder>>;
  readonly columns: ManifestColumns;
}

/** Arrays for `rowCount` rows of the columns that are wanted; those of other columns are empty. */
export function createColumns(wanted: ReadonlySet<ColumnName>, rowCount: number): ColumnBuilders {
  const rowsOf = (name: ColumnName): number => (wanted.has(name) ? rowCount : 0);
  const bytes = (name: ColumnName, width: number) => bytesBuilder(name, rowsOf(name), width);
  const integers = (name: ColumnName) => integerBuilder(name, new Uint32Array(rowsOf(name)), 2 ** 31 - 1);
  const numbers = (name: ColumnName) => numberBuilder(name, rowsOf(name));
  const coded = (name: ColumnName) => codedBuilder(name, rowsOf(name));
  const texts = (name: ColumnName) => textBuilder(name, rowsOf(name));
  const of = {
    key: texts('key'),
    pixelDigest: bytes('pixelDigest', PIXEL_DIGEST_BYTES),
    perceptualHash: bytes('perceptualHash', PERCEPTUAL_HASH_BYTES),
    label: coded('label'),
    group: coded('group'),
    split: coded('split'),
    width: integers('width'),
    height: integers('height'),
    mediaType: coded('mediaType'),
    shard: integers('shard'),
    byteOffset: integerBuilder('byteOffset', new Float64Array(rowsOf('byteOffset')), Number.MAX_SAFE_INTEGER),
    byteLength: integers('byteLength'),
    sourcePath: texts('sourcePath'),
    tissueFraction: numbers('tissueFraction'),
    slide: coded('slide'),
    x: numbers('x'),
    y: numbers('y'),
    level0Width: numbers('level0Width'),
    level0Height: numbers('level0Height'),
    micronsPerPixel: numbers('micronsPerPixel'),
    maskOffset: numbers('maskOffset'),
    maskLength: numbers('maskLength'),
    sourceWidth: numbers('sourceWidth'),
    sourceHeight: numbers('sourceHeight'),
    sourceProfileSha256: coded('sourceProfileSha256'),
    profileChangedPixels: numbers('profileChangedPixels'),
  };
  return {
    of,
    columns: {
      key: of.key.column,
      pixelDigest: of.pixelDigest.column,
      perceptualHash: of.perceptualHash.column,
      label: of.label.column,
      group: of.group.column,
      split: of.split.column,
      width: of.width.column,
      height: of.height.column,
      mediaType: of.mediaType.column,
      shard: of.shard.column,
      byteOffset: of.byteOffset.column,
      byteLength: of.byteLength.column,
      sourcePath: of.sourcePath.column,
      tissueFraction: of.tissueFraction.column,
      slide: of.slide.column,
      x: of.x.column,
      y: of.y.column,
      level0Width: of.level0Width.column,
      level0Height: of.level0Height.column,
      micronsPerPixel: of.micronsPerPixel.column,
      maskOffset: of.maskOffset.column,
      maskLength: of.maskLength.column,
      sourceWidth: of.sourceWidth.column,
      sourceHeight: of.sourceHeight.column,
      sourceProfileSha256: of.sourceProfileSha256.column,
      profileChangedPixels: of.profileChangedPixels.column,
    },
  };
}

type Builder<Column> = ColumnBuilder & { readonly column: Column };

function integerBuilder<Column extends Uint32Array | Float64Array>(
  name: ColumnName,
  column: Column,
  largest: number,
): Builder<Column> {
  return {
    column,
    fill: (start, values, rowInFile) => {
      for (let index = 0; index < values.length; index += 1) {
        const value = numberOf(values[index]);
        if (!(Number.isInteger(value) && value >= 0 && value <= largest))
          throw invalid(rowInFile + index, name, `an integer of 0..${largest}`, values[index]);
        column[start + index] = value;
      }
    },
  };
}

function numberBuilder(name: ColumnName, rowCount: number): Builder<Float64Array> {
  const column = new Float64Array(rowCount);
  return {
    column,
    fill: (start, values, rowInFile) => {
      for (let index = 0; index < values.length; index += 1) {
        const value = values[index] ?? null;
        const number = value === null ? NaN : numberOf(value);
        if (value !== null && !(number >= 0 && number <= Number.MAX_SAFE_INTEGER))
          throw invalid(rowInFile + index, name, 'a number of at least 0, or null', value);
        column[start + index] = number;
      }
    },
  };
}

/** NaN for anything that is not a number. */
function numberOf(value: unknown): number {
  return typeof value === 'number' || typeof value === 'bigint' || typeof value === 'boolean' ? Number(value) : NaN;
}

function bytesBuilder(name: ColumnName, rowCount: number, width: number): Builder<Uint8Array> {
  const column = new Uint8Array(rowCount * width);
  return {
    column,
    fill: (start, values, rowInFile) => {
      for (let index = 0; index < values.length; index += 1) {
        const value = values[index];
        if (!(value instanceof Uint8Array && value.length === width))
          throw invalid(rowInFile + index, name, `${width} bytes`, value);
        column.set(value, (start + index) * width);
      }
    },
  };
}

function codedBuilder(name: ColumnName, rowCount: number): Builder<CodedColumn> {
  const { nullable } = MANIFEST_SCHEMA[name];
  const values: string[] = [];
  const codes = new Int32Array(rowCount);
  const codeOf = new Map<string, number>();
  return {
    column: {
      length: rowCount,
      values,
      codes,
      at: (row) => values[codes[row] ?? -1] ?? null,
    },
    fill: (start, texts, rowInFile) => {
      for (let index = 0; index < texts.length; index += 1) {
        const text = texts[index] ?? null;
        if (text === null && nullable) {
          codes[start + index] = -1;
          continue;
        }
        if (typeof text !== 'string' || text === '')
          throw invalid(rowInFile + index, name, describeText(nullable), text);
        let code = codeOf.get(text);
        if (code === undefined) {
          code = values.length;
          codeOf.set(text, code);
          values.push(text);
        }
        codes[start + index] = code;
      }
    },
  };
}

/** UTF-8 of the rows that one call of `fill` brought. */
interface PackedTexts {
  readonly start: number;
  readonly bytes: Buffer;
  /** End of each row in `bytes`; an empty text is null, because no column allows an empty one. */
  readonly ends: Uint32Array;
}

function textBuilder(name: ColumnName, rowCount: number): Builder<TextColumn> {
  const { nullable } = MANIFEST_SCHEMA[name];
  const parts: PackedTexts[] = [];
  /** The last part that begins at or before the row. */
  const partOf = (row: number): PackedTexts | undefined => {
    let low = 0;
    let high = parts.length;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if ((parts[middle]?.start ?? Infinity) <= row) low = middle;
      else high = middle;
    }
    return parts[low];
  };
  return {
    column: {
      length: rowCount,
      at: (row) => {
        const part = partOf(row);
        if (part === undefined) return null;
        const place = row - part.start;
        const startByte = place === 0 ? 0 : (part.ends[place - 1] ?? 0);
        const endByte = part.ends[place] ?? startByte;
        return endByte === startByte ? null : part.bytes.toString('utf8', startByte, endByte);
      },
    },
    fill: (start, texts, rowInFile) => {
      const pieces: Uint8Array[] = [];
      const ends = new Uint32Array(texts.length);
      let end = 0;
      for (let index = 0; index < texts.length; index += 1) {
        const text = texts[index] ?? null;
        const piece = typeof text === 'string' ? Buffer.from(text, 'utf8') : text;
        if (piece instanceof Uint8Array && piece.length > 0) {
          pieces.push(piece);
          end += piece.length;
        } else if (!(piece === null && nullable)) {
          throw invalid(rowInFile + index, name, describeText(nullable), text);
        }
        ends[index] = end;
      }
      parts.push({ start, bytes: Buffer.concat(pieces, end), ends });
    },
  };
}

function describeText(nullable: boolean): string {
  return nullable ? 'a text, or null' : 'a text';
}

function invalid(row: number, name: ColumnName, rule: string, value: unknown): ManifestError {
  const found =
    value instanceof Uint8Array
      ? `${value.length} bytes`
      : typeof value === 'string'
        ? JSON.stringify(value)
        : String(value);
  return new ManifestError(
    'MANIFEST_ROW_INVALID',
    `Row ${row} of the manifest: ${name} must be ${rule}, not ${found}.`,
  );
}
