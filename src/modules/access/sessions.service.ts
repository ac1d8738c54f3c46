/**
 * Sessions of browsers that signed in with a key. A session is a random token in a cookie that has the permissions of
 * the key; the database stores only its digest. It ends after its lifetime, with its key, by sign-out, or when an ADMIN
 * revokes it.
 */
import { randomBytes } from 'node:crypto';
import { DomainError } from '../../errors.ts';
import { isId } from '../../input.ts';
import type { Transact } from '../../platform/db.ts';
import type { Page, PageArguments } from '../../platform/page.ts';
import {
  authorise,
  digestOfSessionToken,
  faultOfKey,
  isSessionToken,
  SECRET_BYTES,
  sessionEnd,
  viewerOfKey,
  type Viewer,
} from './access.rules.ts';
import type { AccessStore } from './access.store.ts';
import type { SessionFilter, SessionRecord, SessionStore } from './sessions.store.ts';
import type { TrustedCredentials } from './trusted.ts';

/** A new session. Its token is returned only this once. */
export interface StartedSession {
  readonly session: SessionRecord;
  readonly token: string;
}

export interface SessionService {
  /**
   * The viewer whose key the session was begun with.
   * @throws DomainError UNAUTHENTICATED for a session that is unknown, has ended, or whose key is no longer valid.
   */
  viewerOf(token: string): Promise<Viewer>;
  /**
   * Begins a session of the viewer's key; above SESSIONS_PER_KEY_MAX the oldest session of that key ends.
   * @param address address of the browser; null if unknown.
   * @param replaced token of the browser's previous session, which ends.
   * @throws DomainError UNAUTHENTICATED without a key, or if the key was revoked in the meantime.
   */
  signIn(viewer: Viewer, address: string | null, replaced?: string): Promise<StartedSession>;
  /** Ends a session; does nothing if it has ended already. */
  signOut(token: string): Promise<void>;
  /** Open sessions, newest first. */
  list(viewer: Viewer, page: PageArguments, filter: SessionFilter): Promise<Page<SessionRecord>>;
  /** Ends any session: on this server at once, on others when their cache expires. Throws NOT_FOUND. */
  revoke(viewer: Viewer, id: string): Promise<SessionRecord>;
}

export interface SessionServiceParts {
  readonly store: SessionStore;
  readonly keys: Pick<AccessStore, 'find' | 'touch'>;
  readonly transact: Transact;
  readonly trusted: TrustedCredentials;
  readonly lifetimeMs: number;
  readonly now: () => Date;
}

export const SESSIONS_PER_KEY_MAX = 50;
export const USE_RECORDED_EVERY_MS = 60_000;

export function createSessionService({
  store,
  keys,
  transact,
  trusted,
  lifetimeMs,
  now,
}: SessionServiceParts): SessionService {
  return {
    viewerOf: async (token) => {
      if (!isSessionToken(token)) throw ended('The session has ended.');
      const digest = digestOfSessionToken(token);
      const known = trusted.get(digest);
      if (known !== undefined) return known;
      const session = await store.findByDigest(digest);
      if (session === undefined || session.expiresAt <= now()) throw ended('The session has ended.');
      const fault = faultOfKey(session.key, now());
      if (fault !== undefined) throw ended(fault);
      const since = new Date(now().getTime() - USE_RECORDED_EVERY_MS);
      await Promise.all([store.touch(session.id, now(), since), keys.touch(session.key.id, now(), since)]);
      const viewer = viewerOfKey(session.key);
      trusted.remember(digest, viewer, {
        // The earlier of the two.
        endsAt: sessionEnd(session.expiresAt, 0, session.key.expiresAt),
        sessionId: session.id,
      });
      return viewer;
    },

    signIn: async (viewer, address, replaced) => {
      if (viewer.kind !== 'KEY') throw needsKey();
      const token = randomBytes(SECRET_BYTES).toString('base64url');
      const tokenDigest = digestOfSessionToken(token);
      const session = await transact(async (tx) => {
        const key = await keys.find(tx, viewer.keyId);
        // The key may have been revoked since it was checked, perhaps by another server.
        if (key === undefined || faultOfKey(key, now()) !== undefined) throw needsKey();
        await store.removeExpired(tx, now());
        if (replaced !== undefined) await store.remove(tx, { tokenDigest: digestOfSessionToken(replaced) });
        // A session that ends here may be accepted from a cache for some seconds more.
        await store.removeOldest(tx, key.id, SESSIONS_PER_KEY_MAX - 1);
        const expiresAt = sessionEnd(now(), lifetimeMs, key.expiresAt);
        return store.create(tx, { keyId: key.id, tokenDigest, address, expiresAt });
      });
      if (replaced !== undefined) trusted.forget(digestOfSessionToken(replaced));
      return { session, token };
    },

    signOut: async (token) => {
      const tokenDigest = digestOfSessionToken(token);
      await transact((tx) => store.remove(tx, { tokenDigest }));
      trusted.forget(tokenDigest);
    },

    list: async (viewer, page, filter) => {
      authorise(viewer, 'ADMIN');
      return store.list(page, filter, now());
    },

    revoke: async (viewer, id) => {
      authorise(viewer, 'ADMIN');
      const session = await transact(async (tx) => {
        const found = isId(id) ? await store.remove(tx, { id }) : undefined;
        if (found !== undefined) return found;
        throw new DomainError({
          code: 'NOT_FOUND',
          message: 'No open session has this id.',
          field: 'id',
          hint: 'List the sessions with the query `sessions`.',
        });
      });
      trusted.forgetSession(session.id);
      return session;
    },
  };
}

function ended(message: string): DomainError {
  return new DomainError({ code: 'UNAUTHENTICATED', message, hint: 'Sign in again.' });
}

function needsKey(): DomainError {
  return new DomainError({
    code: 'UNAUTHENTICATED',
    message: 'A valid key is needed to sign in.',
    hint: 'Send it as "Authorization: Bearer pfn_...".',
  });
}
