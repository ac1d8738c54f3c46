/**
 * Limits the rate of requests. The counts are in the memory of this process, because a registry has one server; several
 * servers behind one name would each count separately.
 */
import { isIPv6 } from 'node:net';
import type { ServerResponse } from 'node:http';
import { RateLimiterMemory, RateLimiterRes } from 'rate-limiter-flexible';
import { DomainError } from '../errors.ts';

export interface RateLimits {
  /** Requests, or operations over a WebSocket, of one key, or of one address without a key. */
  readonly requestsPerMinute: number;
  /** Refusals (invalid key, forbidden action) of one such sender that are written into the audit log. */
  readonly refusalsPerMinute: number;
  /** Refusals of all senders without a valid key together that are written into the audit log. */
  readonly anonymousRefusalsPerMinute: number;
}

export const DEFAULT_RATE_LIMITS: RateLimits = {
  requestsPerMinute: 6_000,
  refusalsPerMinute: 60,
  anonymousRefusalsPerMinute: 600,
};

export interface RateLimiter {
  /**
   * Counts a request. Sets the headers RateLimit and RateLimit-Policy (draft-ietf-httpapi-ratelimit-headers), and
   * Retry-After if the request is refused.
   * @throws DomainError RATE_LIMITED.
   */
  admit(sender: string, response?: ServerResponse): Promise<void>;
  /** Throws RATE_LIMITED after too many refusals of this sender. */
  checkRefusals(sender: string, response?: ServerResponse): Promise<void>;
  /** Counts a refusal. @returns whether it is within the limit for the audit log. */
  countRefusal(sender: string, isAnonymous: boolean): Promise<boolean>;
}

const WINDOW_S = 60;

export function createRateLimiter({
  requestsPerMinute,
  refusalsPerMinute,
  anonymousRefusalsPerMinute,
}: RateLimits): RateLimiter {
  const requests = new RateLimiterMemory({ points: requestsPerMinute, duration: WINDOW_S });
  const refusals = new RateLimiterMemory({ points: refusalsPerMinute, duration: WINDOW_S });
  const anonymous = new RateLimiterMemory({ points: anonymousRefusalsPerMinute, duration: WINDOW_S });
  return {
    admit: async (sender, response) => {
      const state = await requests.consume(sender).catch(stateOf);
      const seconds = Math.ceil(state.msBeforeNext / 1000);
      response?.setHeader('RateLimit-Policy', `"requests";q=${requestsPerMinute};w=${WINDOW_S}`);
      response?.setHeader('RateLimit', `"requests";r=${state.remainingPoints};t=${seconds}`);
      if (state.consumedPoints > requestsPerMinute)
        throw tooMany(`More than ${requestsPerMinute} requests in a minute.`, seconds, response);
    },
    checkRefusals: async (sender, response) => {
      const state = await refusals.get(sender);
      if (state !== null && state.consumedPoints >= refusalsPerMinute)
        throw tooMany(
          `More than ${refusalsPerMinute} refused requests in a minute.`,
          Math.ceil(state.msBeforeNext / 1000),
          response,
        );
    },
    countRefusal: async (sender, isAnonymous) => {
      const own = await refusals.consume(sender).catch(stateOf);
      if (own.consumedPoints > refusalsPerMinute) return false;
      if (!isAnonymous) return true;
      const all = await anonymous.consume('anonymous').catch(stateOf);
      return all.consumedPoints <= anonymousRefusalsPerMinute;
    },
  };
}

/** The library rejects with the state when the limit is exceeded. */
function stateOf(reason: unknown): RateLimiterRes {
  if (reason instanceof RateLimiterRes) return reason;
  throw reason;
}

function tooMany(message: string, seconds: number, response: ServerResponse | undefined): DomainError {
  response?.setHeader('Retry-After', Math.max(1, seconds));
  return new DomainError({
    code: 'RATE_LIMITED',
    message,
    hint: `Try again in ${Math.max(1, seconds)} s, and send fewer requests.`,
    retryable: true,
  });
}

/** The name under which an address is counted; for IPv6 its /64 network, which usually has a single owner. */
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
