/** What a client of the tus protocol 1.0 (https://tus.io) sends: large bytes go on where a broken connection ended. */

export const UPLOADS_PATH = '/uploads';
const VERSION = { 'tus-resumable': '1.0.0' };

/** For the answer to HEAD, which says at which byte to go on. */
export const OFFSET_HEADERS: Readonly<Record<string, string>> = VERSION;

/** Begins an upload; the answer has its path as `location`. */
export function creationHeaders(byteSize: number, metadata: Readonly<Record<string, string>>): Record<string, string> {
  const pairs = Object.entries(metadata).map(([name, value]) => `${name} ${Buffer.from(value).toString('base64')}`);
  return {
    ...{ ...VERSION, 'upload-length': String(byteSize) },
    // An empty header is not valid.
    ...(pairs.length === 0 ? {} : { 'upload-metadata': pairs.join(',') }),
  };
}

/** Sends the bytes from `offset` on. */
export function bytesHeaders(offset: number): Record<string, string> {
  return { ...VERSION, 'upload-offset': String(offset), 'content-type': 'application/offset+octet-stream' };
}

/** The number of bytes that the server has; undefined for an answer that does not say it. */
export function offsetOf({ headers }: Response): number | undefined {
  const text = headers.get('upload-offset');
  return text !== null && /^\d+$/.test(text) ? Number(text) : undefined;
}
