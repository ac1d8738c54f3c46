/** The fields of a tar header (POSIX ustar) that readers of shards need. */

export const TAR_BLOCK_BYTES = 512;

/** Why a block is not a header; null if it is one. */
export function tarHeaderFault(header: Buffer): 'CHECKSUM' | 'MAGIC' | null {
  if (tarNumberOf(header, 148, 8) !== checksumOf(header)) return 'CHECKSUM';
  return header.toString('latin1', 257, 262) === 'ustar' ? null : 'MAGIC';
}

/** The name of the member; an extended header before it may name another one. */
export function tarNameOf(header: Buffer): string {
  const name = textOf(header, 0, 100);
  const prefix = textOf(header, 345, 155);
  return prefix === '' ? name : `${prefix}/${name}`;
}

/** The size of the member in bytes; null if it is not an octal number, as above 8 GiB: shards are smaller. */
export function tarSizeOf(header: Buffer): number | null {
  return tarNumberOf(header, 124, 12);
}

/** The name without its extension, which the last dot begins; null for a name without one. */
export function splitTarName(name: string): { readonly key: string; readonly extension: string } | null {
  const dot = name.lastIndexOf('.');
  return dot > 0 ? { key: name.slice(0, dot), extension: name.slice(dot + 1).toLowerCase() } : null;
}

function textOf(header: Buffer, start: number, byteCount: number): string {
  const field = header.subarray(start, start + byteCount);
  const end = field.indexOf(0);
  return field.toString('utf8', 0, end < 0 ? byteCount : end);
}

/** The value of an octal field; null if it holds anything else. */
function tarNumberOf(header: Buffer, start: number, byteCount: number): number | null {
  const text = header
    .toString('latin1', start, start + byteCount)
    .replace(/[\0 ]+$/, '')
    .trimStart();
  return /^[0-7]+$/.test(text) ? Number.parseInt(text, 8) : null;
}

/** The sum of a header's bytes with its checksum field read as blanks. */
function checksumOf(header: Buffer): number {
  let sum = 8 * 32;
  for (let index = 0; index < TAR_BLOCK_BYTES; index += 1) if (index < 148 || index >= 156) sum += header[index] ?? 0;
  return sum;
}
