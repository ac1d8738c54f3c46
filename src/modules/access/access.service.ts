/** Identifies the sender of a request; creates and revokes keys. */
import { createHash, randomBytes } from 'node:crypto';
import { readFile, rename, rm, writeFile } from 'node:fs/promises';
import { DomainError } from '../../errors.ts';
import { isId, parseInput } from '../../input.ts';
import type { Transact, Transaction } from '../../platform/db.ts';
import type { Page, PageArguments } from '../../platform/page.ts';
import {
  authorise,
  bearerKey,
  createKeySchema,
  expiryOf,
  faultOfKey,
  hashSecret,
  readKey,
  SALT_BYTES,
  SECRET_BYTES,
  secretMatches,
  viewerOfKey,
  writeKey,
  type Viewer,
} from './access.rules.ts';
import type { AccessKeyRecord, AccessStore, KeyFilter, NewKey, StoredKeyRecord } from './access.store.ts';
import { createSessionService, USE_RECORDED_EVERY_MS, type SessionService } from './sessions.service.ts';
import type { SessionStore } from './sessions.store.ts';
import { createTrustedCredentials } from './trusted.ts';

/** A newly created key. Its text is shown only this once. */
export interface CreatedKey {
  readonly key: AccessKeyRecord;
  readonly secret: string;
}

/**
 * What `ensureAdminKey` found. UNUSABLE: an ADMIN key exists, but the file is missing or holds another key; `hint` says
 * what to do.
 */
export type AdminKeyState =
  | { readonly kind: 'MADE'; readonly file: string }
  | { readonly kind: 'PRESENT'; readonly file: string }
  | { readonly kind: 'UNUSABLE'; readonly file: string; readonly hint: string };

export interface AccessService {
  /**
   * Called at start: if no usable ADMIN key exists, creates one and writes it to `file` with mode 0600. Only its hash
   * is kept in the database, so a lost file cannot be written again.
   */
  ensureAdminKey(file: string): Promise<AdminKeyState>;
  /**
   * The sender of a request with this Authorization header. Without a header the sender is anonymous, and may read from
   * this machine unless the server requires keys.
   * @throws DomainError UNAUTHENTICATED for a header that is not a key, and for an unknown, revoked or expired key.
   */
  viewerOf(authorization: string | undefined, request: { isLocal(): boolean }): Promise<Viewer>;
  /** Newest first. */
  keys(viewer: Viewer, page: PageArguments, filter: KeyFilter): Promise<Page<AccessKeyRecord>>;
  /** Creates a key. Throws BAD_INPUT. */
  createKey(viewer: Viewer, input: unknown): Promise<CreatedKey>;
  /**
   * Revokes a key and its sessions permanently; repeating it changes nothing. Throws NOT_FOUND, and CONFLICT for the
   * last key that may administer.
   */
  revokeKey(viewer: Viewer, id: string): Promise<AccessKeyRecord>;
  readonly sessions: SessionService;
}

export interface AccessServiceParts {
  readonly store: AccessStore;
  readonly sessionStore: SessionStore;
  readonly transact: Transact;
  /** If true, reads need a key too. */
  readonly requireAuth: boolean;
  /** Lifetime of a session; default 12 hours. */
  readonly sessionLifetimeMs?: number;
  /** For tests of expiry. */
  readonly now?: () => Date;
}

const SESSION_LIFETIME_MS = 12 * 3_600_000;

export function createAccessService({
  store,
  sessionStore,
  transact,
  requireAuth,
  sessionLifetimeMs = SESSION_LIFETIME_MS,
  now = () => new Date(),
}: AccessServiceParts): AccessService {
  const trusted = createTrustedCredentials(now);

  const verify = async (text: string): Promise<AccessKeyRecord> => {
    const parts = readKey(text);
    const key: StoredKeyRecord | undefined = parts === undefined ? undefined : await store.findStored(parts.id);
    if (parts === undefined || key === undefined || !secretMatches(parts.secret, key.salt, key.hash))
      throw refusal('The key is unknown or wrong.');
    const fault = faultOfKey(key, now());
    if (fault !== undefined) throw refusal(fault);
    return key;
  };

  const make = async (tx: Transaction, facts: Omit<NewKey, 'salt' | 'hash'>): Promise<CreatedKey> => {
    const secret = randomBytes(SECRET_BYTES).toString('base64url');
    const salt = randomBytes(SALT_BYTES).toString('hex');
    const key = await store.create(tx, { ...facts, salt, hash: hashSecret(salt, secret) });
    return { key, secret: writeKey({ id: key.id, secret }) };
  };

  return {
    ensureAdminKey: (file) =>
      transact(async (tx) => {
        await store.lockAdminKeys(tx);
        if (await store.hasUsableAdmin(tx, now())) {
          const text = await readFile(file, 'utf8').then(
            (content) => content.trim(),
            () => undefined,
          );
          const works =
            text !== undefined &&
            (await verify(text).then(
              () => true,
              () => false,
            ));
          if (works) return { kind: 'PRESENT', file };
          const hint = `An ADMIN key exists, but ${file} does not contain it, and the database has only its hash. Put the key back into the file; or, to create a new one at the next start, run: UPDATE "AccessKey" SET "revokedAt" = now() WHERE role = 'ADMIN'.`;
          return { kind: 'UNUSABLE', file, hint };
        }
        const { secret } = await make(tx, {
          name: 'admin',
          owner: 'admin',
          role: 'ADMIN',
          actions: [],
          resources: [],
          expiresAt: null,
        });
        // The file is written before the commit: an ADMIN key that exists only as a hash would lock every user out.
        await writePrivateFile(file, `${secret}\n`);
        return { kind: 'MADE', file };
      }),

    viewerOf: async (authorization, request) => {
      if (authorization === undefined) return { kind: 'ANONYMOUS', mayRead: !requireAuth && request.isLocal() };
      const text = bearerKey(authorization);
      if (text === undefined) throw refusal('The Authorization header does not contain a key.');
      const digest = createHash('sha256').update(text).digest('base64');
      const known = trusted.get(digest);
      if (known !== undefined) return known;
      const key = await verify(text);
      await store.touch(key.id, now(), new Date(now().getTime() - USE_RECORDED_EVERY_MS));
      const viewer = viewerOfKey(key);
      trusted.remember(digest, viewer, { endsAt: key.expiresAt });
      return viewer;
    },

    keys: async (viewer, page, filter) => {
      authorise(viewer, 'ADMIN');
      return store.list(page, filter, now());
    },

    createKey: async (viewer, raw) => {
      authorise(viewer, 'ADMIN');
      const { expiresAt, actions, resources, ...input } = parseInput(createKeySchema, raw);
      const facts = {
        ...input,
        actions: actions ?? [],
        resources: resources ?? [],
        expiresAt: expiryOf(expiresAt, now()),
      };
      return transact((tx) => make(tx, facts));
    },

    revokeKey: async (viewer, id) => {
      authorise(viewer, 'ADMIN');
      const revoked = await transact(async (tx) => {
        await store.lockAdminKeys(tx);
        const key = isId(id) ? await store.find(tx, id) : undefined;
        if (key === undefined)
          throw new DomainError({
            code: 'NOT_FOUND',
            message: 'No key has this id.',
            field: 'id',
            hint: 'List the keys with the query `keys`.',
          });
        if (key.revokedAt !== null) return key;
        if (!(await store.hasUsableAdmin(tx, now(), id))) {
          throw new DomainError({
            code: 'CONFLICT',
            message: `The key "${key.name}" is the last valid ADMIN key of this registry.`,
            field: 'id',
            hint: 'Create another ADMIN key first.',
          });
        }
        await sessionStore.removeOfKey(tx, id);
        return store.revoke(tx, id, now());
      });
      trusted.forgetKey(revoked.id);
      return revoked;
    },

    sessions: createSessionService({
      store: sessionStore,
      keys: store,
      transact,
      trusted,
      lifetimeMs: sessionLifetimeMs,
      now,
    }),
  };
}

function refusal(message: string): DomainError {
  return new DomainError({
    code: 'UNAUTHENTICATED',
    message,
    hint: 'Send "Authorization: Bearer pfn_..." with a valid key. Leave the header out to read without a key where the server allows it.',
  });
}

/** Only the owner can read the file from its first byte on, even if it replaces a file with wider permissions. */
async function writePrivateFile(file: string, content: string): Promise<void> {
  const unfinished = `${file}.unfinished`;
  await rm(unfinished, { force: true });
  await writeFile(unfinished, content, { mode: 0o600, flag: 'wx' });
  await rename(unfinished, file);
}
