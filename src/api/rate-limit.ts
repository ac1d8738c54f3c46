/**
 * How often somebody may ask. Counted in the memory of this process: one server is what Paraffin is; several behind one
 * name would each count for themselves.
 */
import { isIPv6 } from 'node:net';
import type { ServerResponse } from 'node:http';
import { RateLimiterMemory, RateLimiterRes } from 'rate-limiter-flexible';
import { DomainError } from '../errors.ts';

export interface RateLimits {
  /** Requests, or operations over a socket, of one key; of one address for those without a key. */
  readonly requestsPerMinute: number;
  /** Refusals (a wrong key, a thing not allowed) of the same that are written into the audit log. */
  readonly refusalsPerMinute: number;
  /** The same of everybody without a valid key together, wherever they come from. */
  readonly strangersRefusalsPerMinute: number;
}

export const DEFAULT_RATE_LIMITS: RateLimits = {
  requestsPerMinute: 6_000,
  refusalsPerMinute: 60,
  strangersRefusalsPerMinute: 600,
};

export interface RateLimiter {
  /**
   * Counts a request, and writes the headers RateLimit and RateLimit-Policy (draft-ietf-httpapi-ratelimit-headers),
   * Retry-After with a refusal.
   * @throws DomainError RATE_LIMITED.
   */
  admit(who: string, response?: ServerResponse): Promise<void>;
  /** Throws RATE_LIMITED once there were too many refusals. */
  admitRefused(who: string, response?: ServerResponse): Promise<void>;
  /** Counts a refusal. @returns whether it is one of those that the audit log tells. */
  countRefusal(who: string, isStranger: boolean): Promise<boolean>;
}

const WINDOW_S = 60;

export function createRateLimiter({
  requestsPerMinute,
  refusalsPerMinute,
  strangersRefusalsPerMinute,
}: RateLimits): RateLimiter {
  const requests = new RateLimiterMemory({ points: requestsPerMinute, duration: WINDOW_S });
  const refusals = new RateLimiterMemory({ points: refusalsPerMinute, duration: WINDOW_S });
  const strangers = new RateLimiterMemory({ points: strangersRefusalsPerMinute, duration: WINDOW_S });
  return {
    admit: async (who, response) => {
      const state = await requests.consume(who).catch(stateOf);
      const seconds = Math.ceil(state.msBeforeNext / 1000);
      response?.setHeader('RateLimit-Policy', `"requests";q=${requestsPerMinute};w=${WINDOW_S}`);
      response?.setHeader('RateLimit', `"requests";r=${state.remainingPoints};t=${seconds}`);
      if (state.consumedPoints > requestsPerMinute)
        throw tooMany(`More than ${requestsPerMinute} requests in a minute.`, seconds, response);
    },
    admitRefused: async (who, response) => {
      const state = await refusals.get(who);
      if (state !== null && state.consumedPoints >= refusalsPerMinute)
        throw tooMany(
          `More than ${refusalsPerMinute} refused requests in a minute.`,
          Math.ceil(state.msBeforeNext / 1000),
          response,
        );
    },
    countRefusal: async (who, isStranger) => {
      const own = await refusals.consume(who).catch(stateOf);
      if (own.consumedPoints > refusalsPerMinute) return false;
      if (!isStranger) return true;
      const all = await strangers.consume('strangers').catch(stateOf);
      return all.consumedPoints <= strangersRefusalsPerMinute;
    },
  };
}

/** The library rejects with the state when the limit is passed. */
function stateOf(reason: unknown): RateLimiterRes {
  if (reason instanceof RateLimiterRes) return reason;
  throw reason;
}

function tooMany(message: string, seconds: number, response: ServerResponse | undefined): DomainError {
  response?.setHeader('Retry-After', Math.max(1, seconds));
  return new DomainError({
    code: 'RATE_LIMITED',
    message,
    hint: `Ask again in ${Math.max(1, seconds)} s, and less often.`,
    retryable: true,
  });
}

/** The sender that an address is counted as: the owner of an IPv6 address owns the 2^64 next to it, too. */
export function addressKey(address: string | null): string {
  if (address === null || !isIPv6(address)) return `address ${address ?? 'unknown'}`;
  const [head = '', tail] = address.replace(/%.*$/, '').split('::');
  const front = head === '' ? [] : head.split(':');
  const back = tail === undefined || tail === '' ? [] : tail.split(':');
  const groups =
    tail === undefined
      ? front
      : [...front, ...Array.from({ length: Math.max(0, 8 - front.length - back.length) }, () => '0'), ...back];
  return `address ${groups
    .slice(0, 4)
    .map((group) => Number.parseInt(group, 16).toString(16))
    .join(':')}::/64`;
}
