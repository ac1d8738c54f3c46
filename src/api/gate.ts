/** Admission of requests: authenticates and rate-limits senders, and records a limited number of refusals for audit. */
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
  /** The identity under which requests are counted: the key, or the address of a sender without a key. */
  readonly countedAs: string;
}

/**
 * Runs the database work of a route outside GraphQL: the sender is admitted and waits for its turn as with GraphQL.
 * @param work calls `leave` to end its turn early, before it waits for something other than the database.
 * @throws DomainError of the gate, OVERLOADED, and the errors of `work`.
 */
export type RunAdmitted = <Result>(
  request: IncomingMessage,
  work: (admitted: Admitted, leave: () => void) => Promise<Result>,
) => Promise<Result>;

export interface Gate {
  /**
   * Checks the key first, or the session in the cookie if there is no key, so that a sender with a valid one is not
   * limited because of other senders at the same address.
   * @param authorization the header, or the value that a WebSocket client sent in its place.
   * @throws DomainError UNAUTHENTICATED for a wrong key or session, RATE_LIMITED.
   */
  admit(request: IncomingMessage, authorization?: string): Promise<Admitted>;
  /** Checks whether the key or session is still valid, without counting a request. Throws UNAUTHENTICATED. */
  recheck(request: IncomingMessage, authorization: string | undefined): Promise<void>;
  /** Records in the audit log that an admitted sender was refused, up to a limit. Never throws. */
  refused(admitted: Admitted, act: AuditAct, code: string): Promise<void>;
  /** Records a refusal outside GraphQL in the same way. Never throws. */
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

const ANONYMOUS_VIEWER: Viewer = { kind: 'ANONYMOUS', mayRead: false };

export function createGate({ access, cookie, senderOf, audit, limits, logger }: GateParts): Gate {
  const limiter = createRateLimiter(limits);
  const admittedRequests = new WeakMap<IncomingMessage, Admitted>();
  const recordRefusal = async (countedAs: string, act: AuditAct, code: string): Promise<void> => {
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
      // A page cannot delete the HttpOnly cookie, and an invalid one would deny it even what needs no key.
      const response = responseTo(request);
      if (response !== undefined && isUnauthenticated(error)) cookie.clear(request, response);
      throw error;
    });
  };
  return {
    admit: async (request, authorization = request.headers.authorization) => {
      const response = responseTo(request);
      const sender = senderOf(request);
      const addressName = addressKey(sender.address);
      const viewer = await viewerOf(request, authorization).catch(async (error: unknown) => {
        await limiter.admit(addressName, response);
        await limiter.checkRefusals(addressName, response);
        throw error;
      });
      const countedAs = viewer.kind === 'KEY' ? `key ${viewer.keyId}` : addressName;
      if (viewer.kind === 'KEY') await limiter.checkRefusals(countedAs, response);
      await limiter.admit(countedAs, response);
      const admitted: Admitted = { viewer, address: sender.address, countedAs };
      admittedRequests.set(request, admitted);
      return admitted;
    },

    recheck: async (request, authorization) => {
      await viewerOf(request, authorization);
    },

    refused: ({ countedAs }, act, code) => recordRefusal(countedAs, act, code),

    report: async (request, requestId, error) => {
      if (!(error instanceof DomainError) || !isDenial(error.code)) return;
      const admitted = admittedRequests.get(request);
      const address = admitted?.address ?? senderOf(request).address;
      const claimed = admitted === undefined ? claimedKeyId(request.headers.authorization ?? '') : undefined;
      // Express removes the mount path of a router from `url`.
      const url =
        'originalUrl' in request && typeof request.originalUrl === 'string' ? request.originalUrl : (request.url ?? '');
      const path = url.split('?', 1).join('').slice(0, 200);
      const act = {
        viewer: admitted?.viewer ?? ANONYMOUS_VIEWER,
        address,
        requestId,
        action: `${request.method ?? 'GET'} ${path}`,
        subject: claimed ?? null,
      };
      await recordRefusal(admitted?.countedAs ?? addressKey(address), act, error.code);
    },
  };
}

/** True if the key or session is not valid; any other failure, such as an unreachable database, does not decide it. */
export function isUnauthenticated(error: unknown): boolean {
  return error instanceof DomainError && error.code === 'UNAUTHENTICATED';
}

/** The response that Express made for a request; undefined for a WebSocket. */
function responseTo(request: IncomingMessage): ServerResponse | undefined {
  return 'res' in request && request.res instanceof ServerResponse ? request.res : undefined;
}
