/** Keys and sessions that were valid a moment ago, so that not every request asks the database. */
import type { Viewer } from './access.rules.ts';

/** So long one that another server revoked may still pass: the price of not asking the database for every request. */
const TRUSTED_FOR_MS = 10_000;
const TRUSTED_MAX = 1000;

type Holder = Extract<Viewer, { kind: 'KEY' }>;

interface Trusted {
  readonly viewer: Holder;
  readonly sessionId: string | undefined;
  readonly untilMs: number;
}

/** By digest of what was sent, so that no secret stays in memory. */
export interface TrustedCredentials {
  /** Undefined for what is not known, or not any more. */
  get(digest: string): Holder | undefined;
  /** @param facts `endsAt`: trusted no longer than that; null: it does not end by itself. */
  remember(digest: string, viewer: Holder, facts: { readonly endsAt: Date | null; readonly sessionId?: string }): void;
  forget(digest: string): void;
  /** Its sessions as well. */
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
