/**
 * The artifacts of the registry, as a run's process stores and reads them: over HTTP, or in the store's own folder if
 * the worker shares the server's disk.
 */
import { createHash, randomUUID } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { open, rm } from 'node:fs/promises';
import path from 'node:path';
import { Readable } from 'node:stream';
import { DomainError } from '../../src/errors.ts';
import {
  isFileSource,
  readVerified,
  type ArtifactStore,
  type ByteSource,
  type FileSource,
  type StoredBytes,
} from '../../src/platform/artifact-store/index.ts';
import { storedBytesSchema } from '../../src/protocol/artifacts.ts';
import { request, unreachable, type Door } from './http.ts';
import { untilRegistryAnswers, type Patience } from './patience.ts';

export type WorkerArtifacts = Pick<ArtifactStore, 'put' | 'stat' | 'open' | 'read'>;

export interface HttpArtifactsOptions {
  readonly door: Door;
  readonly runId: string;
  /** For bytes on their way to the registry. */
  readonly workDir: string;
  readonly patience: Patience;
}

/** Bytes as they can be sent more than once. */
interface Outgoing extends StoredBytes {
  body(): ReadableStream | Uint8Array<ArrayBuffer>;
  remove(): Promise<void>;
}

export function createHttpArtifacts({ door, runId, workDir, patience }: HttpArtifactsOptions): WorkerArtifacts {
  const pathOf = (sha256: string): string => `/worker/runs/${runId}/artifacts/${sha256}`;

  const stat: WorkerArtifacts['stat'] = (sha256) =>
    untilRegistryAnswers(async () => {
      try {
        const { headers } = await request(door, pathOf(sha256), { method: 'HEAD' });
        return { byteSize: Number(headers.get('content-length')), writtenAt: new Date(0) };
      } catch (error) {
        // An answer to HEAD has no body: the reason comes when the artifact is opened.
        if (error instanceof DomainError && (error.code === 'NOT_FOUND' || error.code === 'INTERNAL')) return undefined;
        throw error;
      }
    }, patience);

  /** Goes on where a broken connection ended. The reader verifies the bytes. */
  async function* bytesOf(sha256: string, first: number, last: number | undefined): AsyncGenerator<Uint8Array> {
    let next = first;
    const end = last === undefined ? '' : String(last);
    for (;;) {
      if (last !== undefined && next > last) return;
      const isWhole = next === 0 && last === undefined;
      const headers: Record<string, string> = isWhole ? {} : { range: `bytes=${next}-${end}` };
      const response = await untilRegistryAnswers(
        () =>
          request(door, pathOf(sha256), { headers }).catch((error: unknown) => {
            // Everything had arrived when the connection broke.
            if (next > first && error instanceof DomainError && error.code === 'RANGE_NOT_SATISFIABLE')
              return undefined;
            throw error;
          }),
        patience,
      );
      if (response === undefined || response.body === null) return;
      try {
        for await (const chunk of response.body) {
          next += chunk.length;
          yield chunk;
        }
        return;
      } catch (error) {
        if (!isBroken(error)) throw error;
        patience.onWait?.();
      }
    }
  }

  const openBytes: WorkerArtifacts['open'] = async (sha256, range) => {
    // The error of a missing artifact comes before the first byte.
    const bytes = bytesOf(sha256, range?.first ?? 0, range?.last);
    const begun = await bytes.next();
    return Readable.from(prepended(begun, bytes), { objectMode: false });
  };

  return {
    put: async (source) => {
      const outgoing = await outgoingOf(source, workDir);
      const { sha256, byteSize } = outgoing;
      try {
        if ((await stat(sha256))?.byteSize === byteSize) return { sha256, byteSize };
        return await untilRegistryAnswers(async () => {
          const response = await request(door, pathOf(sha256), {
            method: 'PUT',
            headers: { 'content-length': String(byteSize), 'content-type': 'application/octet-stream' },
            body: outgoing.body(),
            duplex: 'half',
          });
          return storedBytesSchema.parse(
            await response.json().catch((error: unknown) => {
              throw unreachable(door.url, error);
            }),
          );
        }, patience);
      } finally {
        await outgoing.remove();
      }
    },
    stat,
    open: openBytes,
    read: async (sha256) => {
      const chunks: Buffer[] = [];
      await readVerified({ open: openBytes }, sha256, (bytes) => chunks.push(bytes));
      return Buffer.concat(chunks);
    },
  };
}

async function outgoingOf(source: ByteSource, workDir: string): Promise<Outgoing> {
  if (source instanceof Uint8Array) return fromMemory(source);
  return isFileSource(source) ? fromFile(source.file) : spooled(source, workDir);
}

function fromMemory(bytes: Uint8Array): Outgoing {
  const sha256 = createHash('sha256').update(bytes).digest('hex');
  const body = new Uint8Array(bytes);
  return { sha256, byteSize: bytes.length, body: () => body, remove: async () => undefined };
}

/** Nobody writes to it meanwhile, so it is read twice: for its name, and to be sent. */
async function fromFile(file: string): Promise<Outgoing> {
  const hash = createHash('sha256');
  let byteSize = 0;
  for await (const chunk of createReadStream(file, { highWaterMark: 1024 * 1024 })) {
    const bytes: Buffer = chunk;
    hash.update(bytes);
    byteSize += bytes.length;
  }
  const body = (): ReadableStream => Readable.toWeb(createReadStream(file));
  return { sha256: hash.digest('hex'), byteSize, body, remove: async () => undefined };
}

/** Written to the disk first: what is sent has a known digest and size, and can be sent again. */
async function spooled(source: Exclude<ByteSource, Uint8Array | FileSource>, workDir: string): Promise<Outgoing> {
  const file = path.join(workDir, `${randomUUID()}.outgoing`);
  const remove = (): Promise<void> => rm(file, { force: true });
  const hash = createHash('sha256');
  let byteSize = 0;
  try {
    await using handle = await open(file, 'wx', 0o600);
    for await (const chunk of source) {
      const bytes = typeof chunk === 'string' ? Buffer.from(chunk) : chunk;
      hash.update(bytes);
      byteSize += bytes.length;
      await handle.writeFile(bytes);
    }
  } catch (error) {
    await remove();
    throw error;
  }
  return { sha256: hash.digest('hex'), byteSize, body: () => Readable.toWeb(createReadStream(file)), remove };
}

/** Any error of a body that had begun: the connection broke, or the registry found the bytes damaged at their end. */
function isBroken(error: unknown): boolean {
  return error instanceof TypeError || (error instanceof Error && 'code' in error);
}

async function* prepended(
  first: IteratorResult<Uint8Array, void>,
  rest: AsyncGenerator<Uint8Array>,
): AsyncGenerator<Uint8Array> {
  if (first.done === true) return;
  yield first.value;
  yield* rest;
}
