/**
 * Files on their way in by the tus protocol: kept in one folder under names that the server draws, until somebody makes
 * use of them or they expire. Nothing of a client's becomes a path, and nothing here is ever served.
 */
import { randomBytes } from 'node:crypto';
import { mkdir, readdir, rename, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { FileStore } from '@tus/file-store';
import { z } from 'zod';
import { DomainError } from '../errors.ts';

/** A file that came in whole. */
export interface FinishedUpload {
  readonly path: string;
  /** As the client named it, for the record alone. */
  readonly fileName: string | null;
  /** As the client stated it when it began; lower-case hex. */
  readonly sha256: string | null;
}

export interface UploadStore {
  /** What the tus server writes to. */
  readonly files: FileStore;
  /** Nothing larger is begun. */
  readonly maxBytes: number;
  newId(): string;
  /**
   * Passes for the key that began the upload. @throws DomainError UPLOAD_NOT_FOUND otherwise, whether it exists or not.
   */
  requireOwner(id: string, ownerKeyId: string): Promise<void>;
  /** How many uploads of a key are here, finished or not. */
  countOf(ownerKeyId: string): Promise<number>;
  /**
   * Gives a finished upload to `work`, and to nobody else meanwhile. It is gone when `work` succeeds or finds that the
   * bytes are not the meant ones (DIGEST_MISMATCH); after any other failure it is there again.
   * @throws DomainError UPLOAD_NOT_FOUND (also for another key's), UPLOAD_INCOMPLETE, and what `work` throws.
   */
  consume<Result>(id: string, ownerKeyId: string, work: (upload: FinishedUpload) => Promise<Result>): Promise<Result>;
  /** Removes what is older than the expiry, finished or not. @returns how many uploads that were. */
  removeExpired(): Promise<number>;
}

export interface UploadStoreOptions {
  readonly folder: string;
  readonly maxBytes: number;
  readonly expiryMs?: number;
}

/** Counted from its beginning: a night and a day for the slowest line. */
const EXPIRY_MS = 24 * 3_600_000;
const ID_PATTERN = /^[0-9a-f]{32}$/;
/** Uploads in use: a file that is not in the store's own folder is found by no request. */
const CONSUMED_DIR = 'consumed';

const uploadSchema = z.object({
  size: z.number(),
  metadata: z.object({ ownerKeyId: z.string(), filename: z.string().nullish(), sha256: z.string().nullish() }),
});

/** Opens the folder, and puts back what a killed server had in use. */
export async function openUploadStore({
  folder,
  maxBytes,
  expiryMs = EXPIRY_MS,
}: UploadStoreOptions): Promise<UploadStore> {
  const consumedDir = path.join(folder, CONSUMED_DIR);
  await mkdir(consumedDir, { recursive: true, mode: 0o700 });
  for (const id of await readdir(consumedDir)) await rename(path.join(consumedDir, id), path.join(folder, id));

  const files = new FileStore({ directory: folder, expirationPeriodInMilliseconds: expiryMs });
  // Without a length at the beginning nothing could be refused for its size.
  files.extensions = files.extensions.filter((name) => name !== 'creation-defer-length');

  const factsPath = (id: string): string => path.join(folder, `${id}.json`);
  const factsOf = async (id: string) => {
    const parsed = ID_PATTERN.test(id) ? uploadSchema.safeParse(await files.configstore.get(id)) : undefined;
    return parsed?.success === true ? parsed.data : undefined;
  };
  const ownedOrThrow = async (id: string, ownerKeyId: string) => {
    const facts = await factsOf(id);
    if (facts?.metadata.ownerKeyId === ownerKeyId) return facts;
    throw notFound();
  };
  const ids = async (): Promise<string[]> =>
    (await readdir(folder)).flatMap((name) => (name.endsWith('.json') ? [name.slice(0, -'.json'.length)] : []));

  return {
    files,
    maxBytes,
    newId: () => randomBytes(16).toString('hex'),
    requireOwner: async (id, ownerKeyId) => {
      await ownedOrThrow(id, ownerKeyId);
    },
    countOf: async (ownerKeyId) => {
      const owners = await Promise.all((await ids()).map(async (id) => (await factsOf(id))?.metadata.ownerKeyId));
      return owners.filter((owner) => owner === ownerKeyId).length;
    },
    consume: async (id, ownerKeyId, work) => {
      const { size, metadata } = await ownedOrThrow(id, ownerKeyId);
      const file = path.join(folder, id);
      const receivedBytes = await byteSizeOf(file);
      if (receivedBytes !== undefined && receivedBytes !== size) {
        throw new DomainError({
          code: 'UPLOAD_INCOMPLETE',
          message: `The upload has ${receivedBytes} of ${size} bytes.`,
          hint: `Go on with it: HEAD /uploads/${id} says from where.`,
          retryable: true,
        });
      }
      const inUse = path.join(consumedDir, id);
      // A rename is given to one of several that ask at once.
      await rename(file, inUse).catch(() => {
        throw notFound();
      });
      const discard = async (): Promise<void> => {
        await rm(inUse, { force: true });
        await rm(factsPath(id), { force: true });
      };
      try {
        const result = await work({
          path: inUse,
          fileName: metadata.filename ?? null,
          sha256: metadata.sha256 ?? null,
        });
        await discard();
        return result;
      } catch (error) {
        if (error instanceof DomainError && error.code === 'DIGEST_MISMATCH') await discard();
        else await rename(inUse, file);
        throw error;
      }
    },
    removeExpired: async () => {
      let removed = 0;
      for (const id of await ids()) {
        // Written once, at the beginning of the upload.
        const begunMs = await stat(factsPath(id)).then(
          ({ mtimeMs }) => mtimeMs,
          () => undefined,
        );
        const isInUse = (await byteSizeOf(path.join(consumedDir, id))) !== undefined;
        if (begunMs === undefined || isInUse || Date.now() - begunMs < expiryMs) continue;
        await rm(path.join(folder, id), { force: true });
        await rm(factsPath(id), { force: true });
        removed += 1;
      }
      return removed;
    },
  };
}

function notFound(): DomainError {
  return new DomainError({
    code: 'UPLOAD_NOT_FOUND',
    message: 'There is no such upload of yours.',
    hint: 'It may have been imported already, or have expired. Begin one with POST /uploads.',
  });
}

async function byteSizeOf(file: string): Promise<number | undefined> {
  return stat(file).then(
    ({ size }) => size,
    () => undefined,
  );
}
