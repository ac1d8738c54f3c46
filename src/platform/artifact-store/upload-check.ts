/** How a store checks the bytes that it receives: by a checksum that comes with them. Pure. */
import { createHash } from 'node:crypto';
import { crc32 } from 'node:zlib';

export const UPLOAD_CHECKS = ['CRC32', 'MD5', 'NONE'] as const;
export type UploadCheck = (typeof UPLOAD_CHECKS)[number];

/** The checksum by which a store checks these bytes, in base64; empty for a store that checks none. */
export function checksumOf(bytes: Uint8Array, check: UploadCheck): string {
  switch (check) {
    case 'CRC32': {
      const value = Buffer.alloc(4);
      value.writeUInt32BE(crc32(bytes));
      return value.toString('base64');
    }
    case 'MD5':
      return createHash('md5').update(bytes).digest('base64');
    case 'NONE':
      return '';
  }
}
