/**
 * Uploads that a worker sends straight to the bucket, part by part, to addresses that are signed here. The worker
 * has no credentials, and the server does not see the bytes pass: so they are joined under a temporary key, read back,
 * and copied to their name by the store only if their sha256 is that name.
 *
 * Nothing is kept in memory between the calls, so that any server of the registry can answer the next one: the id of an
 * upload says under which key it is, and its note (s3-upload.ts) lets `removeUnfinished` find what nobody completed. A
 * key belongs to one upload, which a store completes once: the bytes that were hashed are those that are copied.
 */
import { randomUUID } from 'node:crypto';
import { DomainError } from '../../errors.ts';
import type { ObjectFacts, S3Requests } from './s3-client.ts';
import { isAbsent } from './s3-errors.ts';
import type { StoreAbilities } from './s3-probe.ts';
import { noteKeyOf, noteOf, PART_BYTES, PARTS_MAX, tooManyParts } from './s3-upload.ts';
import type { DirectUploads, StoredBytes } from './store.ts';

export interface DirectUploadParts {
  readonly requests: S3Requests;
  readonly abilities: () => Promise<StoreAbilities>;
  /** The final key of an artifact. */
  readonly keyOf: (sha256: string) => string;
  /** Where the unfinished files of a writer are; ends in a slash. */
  readonly prefixOf: (writer: string) => string;
  readonly digestOf: (key: string, facts: ObjectFacts) => Promise<string>;
  /** Gives the artifact its name by `write`. */
  readonly publish: (sha256: string, write: () => Promise<StoredBytes>) => Promise<StoredBytes>;
  /** For which an address is good: longer than a part takes to begin. */
  readonly lifetimeSeconds: number;
}

/** The name below the writer's prefix, and the store's own id of the upload, whose form differs among stores. */
const ID = /^([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\.(.+)$/s;

interface Place {
  readonly key: string;
  readonly uploadId: string;
}

export function createDirectUploads(parts: DirectUploadParts): DirectUploads {
  const { requests, abilities, keyOf, prefixOf, digestOf, publish, lifetimeSeconds } = parts;

  const placeOf = (writer: string, id: string): Place => {
    const [, name, uploadId] = ID.exec(id) ?? [];
    if (name === undefined || uploadId === undefined) throw notFound();
    return { key: `${prefixOf(writer)}${name}`, uploadId };
  };

  const remove = async (key: string): Promise<void> => {
    await requests.delete(key);
    await requests.delete(noteKeyOf(key));
  };

  /** Undefined if the store knows neither the upload nor what became of it. */
  const join = async ({ key, uploadId }: Place, etags: readonly string[]): Promise<ObjectFacts | undefined> => {
    const sent = etags.map((etag, index) => ({ partNumber: index + 1, etag }));
    try {
      // It has succeeded, too, if an earlier call joined them.
      await requests.completeUpload(key, uploadId, sent);
    } catch (error) {
      if (!(error instanceof DomainError && isAbsent(error.cause))) throw error;
    }
    return requests.head(key);
  };

  const verifyAndPublish = async (place: Place, etags: readonly string[], named: StoredBytes): Promise<StoredBytes> => {
    const joined = await join(place, etags);
    if (joined === undefined) throw notFound();
    const found = { sha256: await digestOf(place.key, joined), byteSize: joined.byteSize };
    if (found.sha256 === named.sha256)
      await publish(found.sha256, async () => {
        await requests.copy(place.key, keyOf(found.sha256), found.byteSize);
        return found;
      });
    await remove(place.key);
    return found;
  };

  const finish = async (place: Place, etags: readonly string[], named: StoredBytes): Promise<StoredBytes> => {
    try {
      return await verifyAndPublish(place, etags, named);
    } catch (error) {
      // An earlier call whose answer was lost, or one to another server meanwhile: what has the name was verified.
      if ((await requests.head(keyOf(named.sha256)))?.byteSize === named.byteSize) return named;
      throw error;
    }
  };

  /** A client that waited too long for the answer asks again while the bytes are still read. */
  const finishing = new Map<string, Promise<StoredBytes>>();

  return {
    begin: async (writer, byteSize) => {
      if (byteSize > PART_BYTES * PARTS_MAX) throw tooManyParts();
      const { uploadCheck } = await abilities();
      const name = randomUUID();
      const key = `${prefixOf(writer)}${name}`;
      const uploadId = await requests.createUpload(key);
      try {
        await requests.put(noteKeyOf(key), noteOf(key, uploadId));
      } catch (error) {
        await requests.abortUpload(key, uploadId).catch(() => undefined);
        throw error;
      }
      return { uploadId: `${name}.${uploadId}`, partBytes: PART_BYTES, check: uploadCheck };
    },
    sign: async (writer, id, part) => {
      const { key, uploadId } = placeOf(writer, id);
      const { uploadCheck: check } = await abilities();
      return requests.linkPart(key, uploadId, part, { check, lifetimeSeconds });
    },
    complete: async (writer, id, etags, named) => {
      const place = placeOf(writer, id);
      const partCount = Math.ceil(named.byteSize / PART_BYTES);
      if (etags.length !== partCount)
        throw new DomainError({
          code: 'UPLOAD_INCOMPLETE',
          message: `The upload has ${etags.length} of ${partCount} parts.`,
          field: 'etags',
          hint: 'Send the missing parts, and name the tag of each.',
          retryable: true,
        });
      const question = [place.key, named.sha256, named.byteSize, ...etags].join('\n');
      const begun = finishing.get(question) ?? finish(place, etags, named).finally(() => finishing.delete(question));
      finishing.set(question, begun);
      return begun;
    },
  };
}

function notFound(): DomainError {
  return new DomainError({
    code: 'UPLOAD_NOT_FOUND',
    message: 'The bucket has no upload of this run with this id.',
    field: 'uploadId',
    hint: 'Begin the upload again.',
  });
}
