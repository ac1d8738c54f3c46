/**
 * Files uploaded by the tus protocol. They are kept in one folder under random names until a request uses them or they
 * expire. No text from a client becomes part of a path, and uploads are never served.
 */
import { randomBytes } from 'node:crypto';
import { mkdir, readdir, rename, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { pipeline, type Readable } from 'node:stream';
import { FileStore } from '@tus/file-store';
import { z } from 'zod';
import { DomainError } from '../errors.ts';
import { createTurns } from '../in-turn.ts';
import { requireSpace, spaceGuard } from './free-space.ts';

/** A completely uploaded file. */
export interface FinishedUpload {
  readonly path: string;
  /** The client's file name, which is only recorded. */
  readonly fileName: string | null;
  /** The sha256 that the client stated at the start of the upload; lower-case hex. */
  readonly sha256: string | null;
}

export interface UploadStore {
  /** The data store of the tus server. */
  readonly files: FileStore;
  /** Larger uploads are refused at the start. */
  readonly maxBytes: number;
  newId(): string;
  /**
   * Passes for the key that started the upload. @throws DomainError UPLOAD_NOT_FOUND for any other key, whether or not
   * the upload exists.
   */
  requireOwner(id: string, ownerKeyId: string): Promise<void>;
  /**
   * Serialises the start of uploads, so that the count of existing uploads is exact. `create` creates the upload.
   * @throws DomainError TOO_MANY_UPLOADS for the limit per person, STORAGE_FULL if this upload and the unfinished ones
   * would touch the reserve of the disk.
   */
  begin(upload: { readonly person: string; readonly byteSize: number }, create: () => Promise<void>): Promise<void>;
  /**
   * Calls `work` with a finished upload, with exclusive use of it. The upload is deleted if `work` succeeds or finds
   * wrong bytes (DIGEST_MISMATCH); after any other failure it becomes available again.
   * @throws DomainError UPLOAD_NOT_FOUND (also for the upload of another key), UPLOAD_INCOMPLETE, and the errors of
   * `work`.
   */
  consume<Result>(id: string, ownerKeyId: string, work: (upload: FinishedUpload) => Promise<Result>): Promise<Result>;
  /** Everybody who has uploads. */
  owners(): Promise<string[]>;
  /** Removes the uploads of an owner that are not in use. @returns the number of removed uploads. */
  removeOf(ownerKeyId: string): Promise<number>;
  /** Removes expired uploads, finished or not. @returns the number of removed uploads. */
  removeExpired(): Promise<number>;
}

export interface UploadStoreOptions {
  readonly folder: string;
  readonly maxBytes: number;
  readonly expiryMs?: number;
}

/**
 * Limit of a person's concurrent uploads over all of their keys, so that no user can fill the disk with small files.
 */
const MAX_UPLOADS_PER_PERSON = 20;
/** Time from the start of an upload until it expires: long enough for a slow connection. */
const EXPIRY_MS = 24 * 3_600_000;
const ID_PATTERN = /^[0-9a-f]{32}$/;
/** Folder of uploads in use: no request can find a file outside the store's own folder. */
const CONSUMED_DIR = 'consumed';

const uploadSchema = z.object({
  size: z.number(),
  metadata: z.object({
    ownerKeyId: z.string(),
    person: z.string().nullish(),
    filename: z.string().nullish(),
    sha256: z.string().nullish(),
  }),
});

/** Opens the folder, and moves back the uploads that a killed server had in use. */
export async function openUploadStore({
  folder,
  maxBytes,
  expiryMs = EXPIRY_MS,
}: UploadStoreOptions): Promise<UploadStore> {
  const consumedDir = path.join(folder, CONSUMED_DIR);
  await mkdir(consumedDir, { recursive: true, mode: 0o700 });
  for (const id of await readdir(consumedDir)) await rename(path.join(consumedDir, id), path.join(folder, id));
  await removeOrphans(folder);

  const files = new GuardedFileStore({ directory: folder, expirationPeriodInMilliseconds: expiryMs });
  // The length must be known at the start, so that an upload can be refused for its size.
  files.extensions = files.extensions.filter((name) => name !== 'creation-defer-length');

  const inTurn = createTurns();
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

  const isInUse = async (id: string): Promise<boolean> => (await byteSizeOf(path.join(consumedDir, id))) !== undefined;
  const remove = async (id: string): Promise<void> => {
    await rm(path.join(folder, id), { force: true });
    await rm(factsPath(id), { force: true });
  };

  return {
    files,
    maxBytes,
    newId: () => randomBytes(16).toString('hex'),
    requireOwner: async (id, ownerKeyId) => {
      await ownedOrThrow(id, ownerKeyId);
    },
    begin: ({ person, byteSize }, create) =>
      inTurn(async () => {
        const present = await Promise.all((await ids()).map(async (id) => ({ id, facts: await factsOf(id) })));
        const own = present.filter(({ facts }) => facts !== undefined && personOf(facts) === person);
        if (own.length >= MAX_UPLOADS_PER_PERSON)
          throw new DomainError({
            code: 'TOO_MANY_UPLOADS',
            message: `You already have ${MAX_UPLOADS_PER_PERSON} uploads on this server.`,
            hint: 'Import them, or delete them with DELETE /uploads/<id>.',
          });
        const missing = await Promise.all(
          present.map(async ({ id, facts }) =>
            facts === undefined
              ? 0
              : Math.max(0, facts.size - ((await byteSizeOf(path.join(folder, id))) ?? facts.size)),
          ),
        );
        await requireSpace(
          folder,
          missing.reduce((sum, bytes) => sum + bytes, byteSize),
        );
        await create();
      }),
    consume: async (id, ownerKeyId, work) => {
      const { size, metadata } = await ownedOrThrow(id, ownerKeyId);
      const file = path.join(folder, id);
      const receivedBytes = await byteSizeOf(file);
      if (receivedBytes !== undefined && receivedBytes !== size) {
        throw new DomainError({
          code: 'UPLOAD_INCOMPLETE',
          message: `The upload has ${receivedBytes} of ${size} bytes.`,
          hint: `Continue the upload; HEAD /uploads/${id} returns the offset.`,
          retryable: true,
        });
      }
      const inUse = path.join(consumedDir, id);
      // Of several concurrent renames only one succeeds.
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
    owners: async () => {
      const facts = await Promise.all((await ids()).map(factsOf));
      return [...new Set(facts.flatMap((each) => each?.metadata.ownerKeyId ?? []))];
    },
    removeOf: async (ownerKeyId) => {
      let removed = 0;
      for (const id of await ids()) {
        if ((await factsOf(id))?.metadata.ownerKeyId !== ownerKeyId || (await isInUse(id))) continue;
        await remove(id);
        removed += 1;
      }
      return removed;
    },
    removeExpired: async () => {
      let removed = 0;
      for (const id of await ids()) {
        // Written once, at the beginning of the upload.
        const startedMs = await stat(factsPath(id)).then(
          ({ mtimeMs }) => mtimeMs,
          () => undefined,
        );
        if (startedMs === undefined || (await isInUse(id)) || Date.now() - startedMs < expiryMs) continue;
        await remove(id);
        removed += 1;
      }
      return removed;
    },
  };
}

/** Removes files without metadata and metadata without a file: a server was killed between the two writes. */
async function removeOrphans(folder: string): Promise<void> {
  const names = new Set(await readdir(folder));
  for (const name of names) {
    const partner = name.endsWith('.json') ? name.slice(0, -'.json'.length) : `${name}.json`;
    const isUploads = ID_PATTERN.test(name) || ID_PATTERN.test(partner);
    if (isUploads && !names.has(partner)) await rm(path.join(folder, name), { force: true });
  }
}

/** The person who started the upload; for an upload from before persons were recorded, the key. */
function personOf({ metadata }: z.infer<typeof uploadSchema>): string {
  return metadata.person ?? metadata.ownerKeyId;
}

/** Refuses writes that would touch the reserve of the disk. */
class GuardedFileStore extends FileStore {
  override async write(readable: Readable, id: string, offset: number): Promise<number> {
    const guard = spaceGuard(this.directory);
    let refusal: unknown;
    guard.once('error', (error) => (refusal = error));
    // The store's own pipeline reads the guarded stream; an error on either side is passed to the other.
    const guarded = pipeline(readable, guard, () => undefined);
    try {
      return await super.write(guarded, id, offset);
    } catch (error) {
      throw refusal instanceof DomainError ? refusal : error;
    }
  }
}

/**
 * Deletes every upload that no import is using, of all users; works with or without a running server.
 * @returns the number of deleted uploads and their total size.
 */
export async function clearUploads(folder: string): Promise<{ readonly count: number; readonly byteSize: number }> {
  const inUse = new Set(await readdir(path.join(folder, CONSUMED_DIR)).catch(() => []));
  let count = 0;
  let byteSize = 0;
  for (const name of await readdir(folder).catch(() => [])) {
    const id = name.replace(/\.json$/, '');
    if (!ID_PATTERN.test(id) || inUse.has(id)) continue;
    if (name === id) {
      count += 1;
      byteSize += (await byteSizeOf(path.join(folder, name))) ?? 0;
    }
    await rm(path.join(folder, name), { force: true });
  }
  return { count, byteSize };
}

function notFound(): DomainError {
  return new DomainError({
    code: 'UPLOAD_NOT_FOUND',
    message: 'None of your uploads has this id.',
    hint: 'It may have been imported already or have expired. Start a new upload with POST /uploads.',
  });
}

async function byteSizeOf(file: string): Promise<number | undefined> {
  return stat(file).then(
    ({ size }) => size,
    () => undefined,
  );
}
