/**
 * Files on their way in by the tus protocol: kept in one folder under names that the server draws, until somebody makes
 * use of them or they expire. Nothing of a client's becomes a path, and nothing here is ever served.
 */
import { randomBytes } from 'node:crypto';
import { mkdir, readdir, rename, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { pipeline, type Readable } from 'node:stream';
import { FileStore } from '@tus/file-store';
import { z } from 'zod';
import { DomainError } from '../errors.ts';
import { requireSpace, spaceGuard } from './free-space.ts';

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
  /**
   * Lets one upload begin after another, so that what is counted is what is there. `create` makes it.
   * @throws DomainError TOO_MANY_UPLOADS of a person, STORAGE_FULL when it and those that are not whole yet would touch
   * the reserve of the disk.
   */
  begin(upload: { readonly person: string; readonly byteSize: number }, create: () => Promise<void>): Promise<void>;
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

/** A person's uploads at a time, under whichever keys, so that nobody fills the disk in small pieces. */
const MAX_UPLOADS_PER_PERSON = 20;
/** Counted from its beginning: a night and a day for the slowest line. */
const EXPIRY_MS = 24 * 3_600_000;
const ID_PATTERN = /^[0-9a-f]{32}$/;
/** Uploads in use: a file that is not in the store's own folder is found by no request. */
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

/** Opens the folder, and puts back what a killed server had in use. */
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
  // Without a length at the beginning nothing could be refused for its size.
  files.extensions = files.extensions.filter((name) => name !== 'creation-defer-length');

  const oneAtATime = createQueue();
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
    begin: ({ person, byteSize }, create) =>
      oneAtATime(async () => {
        const present = await Promise.all((await ids()).map(async (id) => ({ id, facts: await factsOf(id) })));
        const own = present.filter(({ facts }) => facts !== undefined && personOf(facts) === person);
        if (own.length >= MAX_UPLOADS_PER_PERSON)
          throw new DomainError({
            code: 'TOO_MANY_UPLOADS',
            message: `You have ${MAX_UPLOADS_PER_PERSON} uploads here already.`,
            hint: 'Import them, or give them up with DELETE.',
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
          hint: `Continue it: HEAD /uploads/${id} says from where.`,
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

/** A file without the facts that go with it, or those without it, as a server leaves that was killed in between. */
async function removeOrphans(folder: string): Promise<void> {
  const names = new Set(await readdir(folder));
  for (const name of names) {
    const partner = name.endsWith('.json') ? name.slice(0, -'.json'.length) : `${name}.json`;
    const isUploads = ID_PATTERN.test(name) || ID_PATTERN.test(partner);
    if (isUploads && !names.has(partner)) await rm(path.join(folder, name), { force: true });
  }
}

/** Of an upload from before persons were recorded, the key. */
function personOf({ metadata }: z.infer<typeof uploadSchema>): string {
  return metadata.person ?? metadata.ownerKeyId;
}

/** Runs work in the order in which it was asked for. */
function createQueue(): (work: () => Promise<void>) => Promise<void> {
  let last: Promise<unknown> = Promise.resolve();
  return (work) => {
    const mine = last.then(work);
    last = mine.catch(() => undefined);
    return mine;
  };
}

/** Writes nothing that would touch the reserve of the disk. */
class GuardedFileStore extends FileStore {
  override async write(readable: Readable, id: string, offset: number): Promise<number> {
    const guard = spaceGuard(this.directory);
    let refusal: unknown;
    guard.once('error', (error) => (refusal = error));
    // The store's own pipeline takes the guarded bytes; what breaks on either side reaches the other.
    const guarded = pipeline(readable, guard, () => undefined);
    try {
      return await super.write(guarded, id, offset);
    } catch (error) {
      throw refusal instanceof DomainError ? refusal : error;
    }
  }
}

/**
 * Takes away every upload that no import is using, without asking whose it is; works beside a server and without one.
 * @returns how many, and their bytes.
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
    message: 'You have no upload with this id.',
    hint: 'It may have been imported already, or have expired. Begin one with POST /uploads.',
  });
}

async function byteSizeOf(file: string): Promise<number | undefined> {
  return stat(file).then(
    ({ size }) => size,
    () => undefined,
  );
}
