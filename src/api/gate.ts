/** Counts who comes in, and records who was refused in the audit log, within a bound. */
import { ServerResponse, type IncomingMessage } from 'node:http';
import { DomainError } from '../errors.ts';
import type { Logger } from '../logger.ts';
import { claimedKeyId, type AccessService, type Viewer } from '../modules/access/index.ts';
import { isDenial, type AuditAct, type AuditService } from '../modules/audit/index.ts';
import type { SessionCookie } from './session-cookie.ts';
import { addressKey, createRateLimiter, type RateLimits } from './rate-limit.ts';
import type { Sender } from './sender.ts';

export interface Admitted {
  readonly viewer: Viewer;
  readonly address: string | null;
  /** Anyone who is counted: the key, or the address of those without one. */
  readonly countedAs: string;
}

/**
 * Database work of a route beside GraphQL: its sender is admitted, and waits for a turn as with GraphQL.
 * @param work may leave before it is done, where it begins to wait for something else than the database.
 * @throws DomainError of the gate, OVERLOADED, and what the work throws.
 */
export type InTurn = <Result>(
  request: IncomingMessage,
  work: (admitted: Admitted, leave: () => void) => Promise<Result>,
) => Promise<Result>;

export interface Gate {
  /**
   * The key, or the session in the cookie where no key is sent, is looked at first: nobody with a valid one is turned
   * away for what others at the same address did.
   * @param authorization the header, or what a socket sent in its place.
   * @throws DomainError UNAUTHENTICATED for a wrong key or session, RATE_LIMITED.
   */
  admit(request: IncomingMessage, authorization?: string): Promise<Admitted>;
  /** Whether somebody who came in might still; counts nothing. Throws UNAUTHENTICATED. */
  recheck(request: IncomingMessage, authorization: string | undefined): Promise<void>;
  /** Somebody who had come in was refused something: recorded in the audit log, within a bound. Never throws. */
  refused(admitted: Admitted, act: AuditAct, code: string): Promise<void>;
  /** Also records refusals outside GraphQL. Never throws. */
  report(request: IncomingMessage, requestId: string, error: unknown): Promise<void>;
}

export interface GateParts {
  readonly access: Pick<AccessService, 'viewerOf' | 'sessions'>;
  readonly cookie: SessionCookie;
  readonly senderOf: (request: IncomingMessage) => Sender;
  readonly audit: Pick<AuditService, 'denied'>;
  readonly limits: RateLimits;
  readonly logger: Logger;
}

const NOBODY: Viewer = { kind: 'ANONYMOUS', mayRead: false };

export function createGate({ access, cookie, senderOf, audit, limits, logger }: GateParts): Gate {
  const limiter = createRateLimiter(limits);
  const inside = new WeakMap<IncomingMessage, Admitted>();
  const tell = async (countedAs: string, act: AuditAct, code: string): Promise<void> => {
    try {
      if (await limiter.countRefusal(countedAs, act.viewer.kind === 'ANONYMOUS')) await audit.denied(act, code);
    } catch (error) {
      logger.error({ err: error, requestId: act.requestId }, 'a refusal could not be written into the audit log');
    }
  };
  const viewerOf = async (request: IncomingMessage, authorization: string | undefined): Promise<Viewer> => {
    const token = authorization === undefined ? cookie.tokenOf(request) : undefined;
    if (token === undefined) return access.viewerOf(authorization, senderOf(request));
    return access.sessions.viewerOf(token).catch((error: unknown) => {
      // A page cannot take back a cookie that it cannot read: it would be refused even what is open to everybody.
      const response = responseTo(request);
      if (response !== undefined && error instanceof DomainError) cookie.take(request, response);
      throw error;
    });
  };
  return {
    admit: async (request, authorization = request.headers.authorization) => {
      const response = responseTo(request);
      const sender = senderOf(request);
      const place = addressKey(sender.address);
      const viewer = await viewerOf(request, authorization).catch(async (error: unknown) => {
        await limiter.admit(place, response);
        await limiter.admitRefused(place, response);
        throw error;
      });
      const countedAs = viewer.kind === 'KEY' ? `key ${viewer.keyId}` : place;
      if (viewer.kind === 'KEY') await limiter.admitRefused(countedAs, response);
      await limiter.admit(countedAs, response);
      const admitted: Admitted = { viewer, address: sender.address, countedAs };
      inside.set(request, admitted);
      return admitted;
    },

    recheck: async (request, authorization) => {
      await viewerOf(request, authorization);
    },

    refused: ({ countedAs }, act, code) => tell(countedAs, act, code),

    report: async (request, requestId, error) => {
      if (!(error instanceof DomainError) || !isDenial(error.code)) return;
      const admitted = inside.get(request);
      const address = admitted?.address ?? senderOf(request).address;
      const claimed = admitted === undefined ? claimedKeyId(request.headers.authorization ?? '') : undefined;
      // Express strips what its routers were mounted at from `url`.
      const url =
        'originalUrl' in request && typeof request.originalUrl === 'string' ? request.originalUrl : (request.url ?? '');
      const path = url.split('?', 1).join('').slice(0, 200);
      const act = {
        viewer: admitted?.viewer ?? NOBODY,
        address,
        requestId,
        action: `${request.method ?? 'GET'} ${path}`,
        subject: claimed ?? null,
      };
      await tell(admitted?.countedAs ?? addressKey(address), act, error.code);
    },
  };
}

/** Express knows it; a socket has none. */
function responseTo(request: IncomingMessage): ServerResponse | undefined {
  return 'res' in request && request.res instanceof ServerResponse ? request.res : undefined;
}
