/** What can be stored, as a stream. */
import { createReadStream } from 'node:fs';
import { Readable } from 'node:stream';
import { isFileSource, type ByteSource } from './store.ts';

/** Large enough that disk and hash, not JavaScript, limit the throughput. */
export const READ_BYTES = 1024 * 1024;

export function streamOf(source: ByteSource): NodeJS.ReadableStream | AsyncIterable<Uint8Array> {
  if (source instanceof Uint8Array) return Readable.from([source]);
  return isFileSource(source) ? createReadStream(source.file, { highWaterMark: READ_BYTES }) : source;
}
