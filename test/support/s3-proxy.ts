/**
 * A proxy in front of an S3-compatible store that makes faults: errors, broken and stalled connections, wrong bytes,
 * old dates. It passes everything else on as it is, signatures included.
 */
import { createServer, request as sendRequest, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Writable } from 'node:stream';
import { crc32 } from 'node:zlib';

export interface SeenRequest {
  readonly method: string;
  /** Bucket and key, decoded. */
  readonly path: string;
  readonly query: URLSearchParams;
  readonly headers: IncomingMessage['headers'];
}

export type Fault =
  /** The store answers with an error of its own; `serverTime` is its clock. */
  | { readonly kind: 'ERROR'; readonly status: number; readonly code: string; readonly serverTime?: Date }
  /** The connection breaks after so many bytes of the body of the answer. */
  | { readonly kind: 'CUT_ANSWER'; readonly afterBytes: number }
  /** The answer ends in order after so many bytes, and says that this was all. */
  | { readonly kind: 'TRUNCATED_ANSWER'; readonly afterBytes: number }
  /** The connection breaks after so many bytes of the body of the request. */
  | { readonly kind: 'CUT_REQUEST'; readonly afterBytes: number }
  /** The store carries the request out, and the answer is lost. */
  | { readonly kind: 'LOST_ANSWER' }
  /** The first byte of the body is another one. */
  | { readonly kind: 'WRONG_ANSWER_BYTES' }
  | { readonly kind: 'WRONG_REQUEST_BYTES' }
  /** The connection stays open, and nothing comes. */
  | { readonly kind: 'SILENCE' };

export interface S3Proxy {
  readonly endpoint: string;
  /** Called for every request, which waits for it; the fault to make, if any. */
  fault: (request: SeenRequest) => Fault | undefined | Promise<Fault | undefined>;
  /** Whether it refuses bodies that do not match their CRC-32, as most stores do; the emulator ignores it. */
  checksUploads: boolean;
  /** All requests since the start. */
  readonly seen: readonly SeenRequest[];
  /** From now on, and until it is written again, the store reports this object as written at another time. */
  setWrittenAt(path: string, writtenAt: Date): void;
  close(): Promise<void>;
}

export async function startS3Proxy(target: string): Promise<S3Proxy> {
  const { hostname, port } = new URL(target);
  const seen: SeenRequest[] = [];
  const writtenAt = new Map<string, Date>();
  const noFault: S3Proxy['fault'] = () => undefined;
  const proxy = { fault: noFault, checksUploads: false };

  const handle = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const url = new URL(request.url ?? '/', target);
    const { method = 'GET', headers } = request;
    const path = decodeURIComponent(url.pathname.slice(1));
    const described: SeenRequest = { method, path, query: url.searchParams, headers };
    seen.push(described);
    const fault = await proxy.fault(described);
    if (fault?.kind === 'ERROR') {
      request.resume();
      sendError(response, method, fault);
      return;
    }
    if (fault?.kind === 'SILENCE') {
      request.resume();
      return;
    }
    const upstream = sendRequest({ hostname, port, method, path: request.url, headers });
    // A client that has gone away reads no more: the rest of the answer would keep this process alive for ever.
    response.once('close', () => upstream.destroy());
    const answered = new Promise<IncomingMessage>((resolve, reject) => {
      upstream.once('response', resolve);
      upstream.once('error', reject);
    });
    answered.catch(() => undefined);
    const expected = proxy.checksUploads ? headers['x-amz-checksum-crc32'] : undefined;
    const held: Buffer[] = [];
    let sent = 0;
    for await (const chunk of request) {
      const bytes: Buffer = chunk;
      if (fault?.kind === 'CUT_REQUEST' && sent + bytes.length > fault.afterBytes) {
        upstream.write(bytes.subarray(0, fault.afterBytes - sent));
        upstream.destroy();
        response.destroy();
        return;
      }
      const passed = fault?.kind === 'WRONG_REQUEST_BYTES' && sent === 0 ? changed(bytes) : bytes;
      if (expected !== undefined) held.push(passed);
      else if (!upstream.write(passed)) await drainedOrClosed(upstream);
      sent += bytes.length;
    }
    if (expected !== undefined && expected !== base64Of(held.reduce((sum, bytes) => crc32(bytes, sum), 0))) {
      upstream.destroy();
      sendError(response, method, { status: 400, code: 'BadDigest' });
      return;
    }
    upstream.end(Buffer.concat(held));
    const answer = await answered;
    if ((answer.statusCode ?? 500) < 300 && (method === 'PUT' || method === 'DELETE')) writtenAt.delete(path);
    if (fault?.kind === 'LOST_ANSWER') {
      answer.resume();
      response.destroy();
      return;
    }
    await passBack(answer, response, { path, writtenAt, fault });
  };
  const server = createServer((request, response) => {
    handle(request, response).catch(() => response.destroy());
  });
  server.listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  return Object.assign(proxy, {
    endpoint: `http://127.0.0.1:${addressOf(server.address()).port}`,
    seen,
    setWrittenAt: (path: string, at: Date) => void writtenAt.set(path, at),
    close: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  });
}

async function drainedOrClosed(stream: Writable): Promise<void> {
  if (stream.destroyed) return;
  await new Promise<void>((resolve) => {
    const done = (): void => {
      for (const name of ['drain', 'close', 'error']) stream.off(name, done);
      resolve();
    };
    for (const name of ['drain', 'close', 'error']) stream.on(name, done);
  });
}

function sendError(
  response: ServerResponse,
  method: string,
  { status, code, serverTime }: { readonly status: number; readonly code: string; readonly serverTime?: Date },
): void {
  response.writeHead(status, {
    'content-type': 'application/xml',
    ...(serverTime === undefined ? {} : { date: serverTime.toUTCString() }),
  });
  response.end(
    method === 'HEAD'
      ? undefined
      : `<?xml version="1.0" encoding="UTF-8"?><Error><Code>${code}</Code><Message>made by a test</Message></Error>`,
  );
}

function base64Of(checksum: number): string {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(checksum);
  return bytes.toString('base64');
}

function addressOf(address: AddressInfo | string | null): AddressInfo {
  if (typeof address === 'object' && address !== null) return address;
  throw new Error('The proxy does not listen on TCP.');
}

function changed(bytes: Buffer): Buffer {
  const copy = Buffer.from(bytes);
  if (copy.length > 0) copy[0] = (copy[0] ?? 0) ^ 1;
  return copy;
}

interface PassBack {
  readonly path: string;
  readonly writtenAt: ReadonlyMap<string, Date>;
  readonly fault: Fault | undefined;
}

async function passBack(
  answer: IncomingMessage,
  response: ServerResponse,
  { path, writtenAt, fault }: PassBack,
): Promise<void> {
  const headers = { ...answer.headers };
  const reported = writtenAt.get(path);
  if (reported !== undefined && headers['last-modified'] !== undefined)
    headers['last-modified'] = reported.toUTCString();
  const isList = (headers['content-type'] ?? '').includes('xml') && writtenAt.size > 0;
  if (isList || fault?.kind === 'TRUNCATED_ANSWER') {
    const whole = Buffer.concat(await answer.toArray());
    const body =
      fault?.kind === 'TRUNCATED_ANSWER'
        ? whole.subarray(0, fault.afterBytes)
        : Buffer.from(withDates(whole.toString('utf8'), path.split('/')[0] ?? '', writtenAt));
    delete headers['transfer-encoding'];
    response.writeHead(answer.statusCode ?? 500, { ...headers, 'content-length': String(body.length) });
    response.end(body);
    return;
  }
  response.writeHead(answer.statusCode ?? 500, headers);
  let sent = 0;
  for await (const chunk of answer) {
    const bytes: Buffer = chunk;
    if (fault?.kind === 'CUT_ANSWER' && sent + bytes.length > fault.afterBytes) {
      response.write(bytes.subarray(0, fault.afterBytes - sent), () => response.destroy());
      answer.destroy();
      return;
    }
    const passed = fault?.kind === 'WRONG_ANSWER_BYTES' && sent === 0 ? changed(bytes) : bytes;
    sent += bytes.length;
    if (!response.write(passed)) await drainedOrClosed(response);
  }
  response.end();
}

/** A list of objects with the dates that the test has set. */
function withDates(xml: string, bucket: string, writtenAt: ReadonlyMap<string, Date>): string {
  return xml.replaceAll(/<Contents>.*?<\/Contents>/gs, (entry) => {
    const key = /<Key>(.*?)<\/Key>/s.exec(entry)?.[1];
    const reported = writtenAt.get(`${bucket}/${key}`);
    return reported === undefined
      ? entry
      : entry.replace(/<LastModified>.*?<\/LastModified>/s, `<LastModified>${reported.toISOString()}</LastModified>`);
  });
}
