/** A cache of keys and sessions that were valid recently, so that not every request queries the database. */
import type { Viewer } from './access.rules.ts';

/** A key or session that another server revoked may still be accepted for this time. */
const TRUSTED_FOR_MS = 10_000;
const TRUSTED_MAX = 1000;

type Holder = Extract<Viewer, { kind: 'KEY' }>;

interface Trusted {
  readonly viewer: Holder;
  readonly sessionId: string | undefined;
  readonly untilMs: number;
}

/** The key of the cache is a digest of the credential, so that no secret stays in memory. */
export interface TrustedCredentials {
  /** The viewer of a credential; undefined if it is not in the cache or its entry has expired. */
  get(digest: string): Holder | undefined;
  /** @param facts `endsAt`: when the credential expires; null: never. */
  remember(digest: string, viewer: Holder, facts: { readonly endsAt: Date | null; readonly sessionId?: string }): void;
  forget(digest: string): void;
  /** Removes a key and its sessions. */
  forgetKey(keyId: string): void;
  forgetSession(sessionId: string): void;
}

export function createTrustedCredentials(now: () => Date): TrustedCredentials {
  const trusted = new Map<string, Trusted>();
  const forgetAll = (matches: (one: Trusted) => boolean): void => {
    for (const [digest, one] of trusted) if (matches(one)) trusted.delete(digest);
  };
  return {
    get: (digest) => {
      const known = trusted.get(digest);
      if (known !== undefined && known.untilMs > now().getTime()) return known.viewer;
      trusted.delete(digest);
      return undefined;
    },
    remember: (digest, viewer, { endsAt, sessionId }) => {
      const untilMs = Math.min(now().getTime() + TRUSTED_FOR_MS, endsAt?.getTime() ?? Infinity);
      trusted.delete(digest);
      trusted.set(digest, { viewer, sessionId, untilMs });
      const [oldest] = trusted.keys();
      if (trusted.size > TRUSTED_MAX && oldest !== undefined) trusted.delete(oldest);
    },
    forget: (digest) => void trusted.delete(digest),
    forgetKey: (keyId) => forgetAll(({ viewer }) => viewer.keyId === keyId),
    forgetSession: (id) => forgetAll(({ sessionId }) => sessionId === id),
  };
}
