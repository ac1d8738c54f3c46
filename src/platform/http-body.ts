/**
 * Reads the body of an HTTP answer into a few blocks of memory that are used again and again. Node's own clients put
 * every 64 KiB into new memory: a gigabyte then costs three (node:http) to seven times (fetch) the processor time that
 * it costs here, most of it in the garbage collector and in the kernel, which has to clear the memory first.
 *
 * It reads nothing but a plain body of a stated length. Everything else is left to the ordinary client of the caller,
 * which asks again: redirects, errors, bodies in chunks, broken connections.
 */
import net from 'node:net';
import tls from 'node:tls';

/**
 * Receives the bytes of a body in order. A block is valid until the promise has resolved; the next ones may come
 * before, and no more comes after a rejection. Blocks lie in shared memory, so that a thread can read them.
 */
export type TakeBlock = (bytes: Buffer) => void | Promise<void>;

export interface AnswerHead {
  readonly status: number;
  /** By their names in lower case; of several with one name, the last. */
  readonly headers: ReadonlyMap<string, string>;
}

export interface BodyRequest {
  readonly url: URL;
  readonly headers?: Readonly<Record<string, string>>;
  /** How many bytes the body must have. */
  readonly byteSize: number;
  /** A connection without any byte for this long is given up. */
  readonly stallTimeoutMs: number;
  readonly take: TakeBlock;
}

export interface BodyAnswer {
  /** Undefined if there was no answer in HTTP. */
  readonly head: AnswerHead | undefined;
  /**
   * Whether the answer was a 200 or 206 with a body of `byteSize` bytes, and all of them were taken. Otherwise the
   * bytes that were taken are the beginning of that body.
   */
  readonly isComplete: boolean;
}

/** Stays in the cache of a core between the kernel, which fills it, and whoever reads it. */
const BLOCK_BYTES = 512 * 1024;
const BLOCK_COUNT = 6;
const HEAD_BYTES_MAX = 64 * 1024;
const HEAD_END = '\r\n\r\n';

/** GET, without following redirects. @throws what `take` throws. */
export async function readBody({
  url,
  headers = {},
  byteSize,
  stallTimeoutMs,
  take,
}: BodyRequest): Promise<BodyAnswer> {
  const blocks = createBlocks(take);
  let head: AnswerHead | undefined;
  let received = 0;
  const ended = Promise.withResolvers<void>();

  let isEnded = false;
  const end = (): void => {
    isEnded = true;
    socket.destroy();
    ended.resolve();
  };
  /** @returns false once no more bytes are wanted. */
  const arrived = (byteCount: number): boolean => {
    blocks.filled(byteCount);
    received += byteCount;
    if (head === undefined) {
      const start = blocks.current();
      const headEnd = start.indexOf(HEAD_END);
      if (headEnd === -1) return start.length < HEAD_BYTES_MAX;
      head = parseHead(start.toString('latin1', 0, headEnd));
      if (head === undefined || !hasPlainBody(head, byteSize)) return false;
      blocks.drop(headEnd + HEAD_END.length);
      received = blocks.current().length;
    }
    if (received > byteSize) blocks.shorten(received - byteSize);
    blocks.passIfFull();
    return received < byteSize;
  };
  const onread: net.OnReadOpts = {
    buffer: () => blocks.room(),
    callback: (byteCount) => {
      // TLS may pass on what it has already decrypted.
      if (isEnded) return false;
      if (arrived(byteCount)) return blocks.hasRoomAhead();
      end();
      return false;
    },
  };
  const host = url.hostname.replace(/^\[|\]$/g, '');
  const isSecure = url.protocol === 'https:';
  const port = url.port === '' ? (isSecure ? 443 : 80) : Number(url.port);
  const at = { host, port, onread };
  const socket = isSecure
    ? tls.connect({ ...at, ...(net.isIP(host) === 0 ? { servername: host } : {}), ALPNProtocols: ['http/1.1'] })
    : net.connect(at);
  blocks.onTaken = () => {
    if (blocks.hasFailed()) end();
    else socket.resume();
  };
  socket.setTimeout(stallTimeoutMs, () => {
    if (blocks.hasRoomAhead()) end();
    // The consumer is slow, not the connection, whose turn comes again.
    else socket.setTimeout(stallTimeoutMs);
  });
  socket.on('error', end).on('end', end).on('close', end);
  socket.write(requestText(url, headers));
  await ended.promise;
  const hasBody = head !== undefined && hasPlainBody(head, byteSize);
  await blocks.finish(hasBody);
  return { head, isComplete: hasBody && received >= byteSize };
}

function requestText(url: URL, headers: Readonly<Record<string, string>>): string {
  const fields = { host: url.host, connection: 'close', 'accept-encoding': 'identity', ...headers };
  const lines = Object.entries(fields).map(([name, value]) => `${name}: ${value}`);
  return [`GET ${url.pathname}${url.search} HTTP/1.1`, ...lines, '', ''].join('\r\n');
}

/** Undefined for anything but HTTP/1. */
function parseHead(text: string): AnswerHead | undefined {
  const [statusLine = '', ...lines] = text.split('\r\n');
  const status = /^HTTP\/1\.[01] (\d{3})(?: |$)/.exec(statusLine)?.[1];
  if (status === undefined) return undefined;
  const headers = new Map<string, string>();
  for (const line of lines) {
    const colon = line.indexOf(':');
    if (colon > 0) headers.set(line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim());
  }
  return { status: Number(status), headers };
}

function hasPlainBody({ status, headers }: AnswerHead, byteSize: number): boolean {
  return (
    (status === 200 || status === 206) &&
    !headers.has('transfer-encoding') &&
    (headers.get('content-encoding') ?? 'identity') === 'identity' &&
    headers.get('content-length') === String(byteSize)
  );
}

/** Blocks that are filled one after another; a full one is passed on, and filled again once it was taken. */
function createBlocks(take: TakeBlock) {
  const newBlock = (): Buffer => Buffer.from(new SharedArrayBuffer(BLOCK_BYTES));
  const free = Array.from({ length: BLOCK_COUNT }, newBlock);
  const taking = new Set<Promise<void>>();
  let failure: { readonly error: unknown } | undefined;
  let block = newBlock();
  let end = 0;
  const blocks = {
    /** Called when a block was taken, or could not be. */
    onTaken: (): void => undefined,
    /** Where the next bytes go. */
    room: (): Buffer => block.subarray(end),
    current: (): Buffer => block.subarray(0, end),
    filled: (byteCount: number): void => {
      end += byteCount;
    },
    /** Removes bytes from the beginning of the current block. */
    drop: (byteCount: number): void => {
      block.copyWithin(0, byteCount, end);
      end -= byteCount;
    },
    /** Removes bytes from its end. */
    shorten: (byteCount: number): void => {
      end -= byteCount;
    },
    passIfFull: (): void => {
      if (end === BLOCK_BYTES) pass();
    },
    /** False: a connection that is not asked to pause may still bring some bytes, and there is room for them. */
    hasRoomAhead: (): boolean => free.length > 0,
    hasFailed: (): boolean => failure !== undefined,
    /** Waits until all blocks were taken. @param hasBody whether the current one, too, holds bytes of the body. */
    finish: async (hasBody: boolean): Promise<void> => {
      if (hasBody && end > 0) pass();
      await Promise.all(taking);
      if (failure !== undefined) throw failure.error;
    },
  };
  const pass = (): void => {
    const full = block;
    const bytes = full.subarray(0, end);
    block = free.pop() ?? newBlock();
    end = 0;
    if (failure !== undefined) return;
    const taken = (async () => take(bytes))()
      .catch((error: unknown) => {
        failure ??= { error };
      })
      .then(() => {
        taking.delete(taken);
        free.push(full);
        blocks.onTaken();
      });
    taking.add(taken);
  };
  return blocks;
}
