/** Counts who comes in; who was refused is, recorded in the audit log. */
import { ServerResponse, type IncomingMessage } from 'node:http';
import { DomainError } from '../errors.ts';
import type { Logger } from '../logger.ts';
import { claimedKeyId, type AccessService, type Viewer } from '../modules/access/index.ts';
import { isDenial, type AuditService } from '../modules/audit/index.ts';
import { addressKey, createRateLimiter, type RateLimits } from './rate-limit.ts';
import type { Sender } from './sender.ts';

export interface Admitted {
  readonly viewer: Viewer;
  readonly address: string | null;
  /** Anyone who is counted: the key, or the address of those without one. */
  readonly countedAs: string;
}

export interface Gate {
  /**
   * @param authorization the header, or what a socket brought in its place.
   * @throws DomainError UNAUTHENTICATED for a wrong key, RATE_LIMITED.
   */
  admit(request: IncomingMessage, authorization?: string): Promise<Admitted>;
  /** Whether somebody who came in might still; counts nothing. Throws UNAUTHENTICATED. */
  recheck(request: IncomingMessage, authorization: string | undefined): Promise<void>;
  /** Counts a refusal of somebody who had come in. */
  countRefusal(admitted: Admitted): Promise<void>;
  /** What went wrong outside GraphQL, if it was a refusal, goes into the audit log. Never throws. */
  report(request: IncomingMessage, requestId: string, error: unknown): Promise<void>;
}

export interface GateParts {
  readonly viewerOf: AccessService['viewerOf'];
  readonly senderOf: (request: IncomingMessage) => Sender;
  readonly audit: Pick<AuditService, 'denied'>;
  readonly limits: RateLimits;
  readonly logger: Logger;
}

const NOBODY: Viewer = { kind: 'ANONYMOUS', mayRead: false };

export function createGate({ viewerOf, senderOf, audit, limits, logger }: GateParts): Gate {
  const limiter = createRateLimiter(limits);
  const inside = new WeakMap<IncomingMessage, Admitted>();
  return {
    admit: async (request, authorization = request.headers.authorization) => {
      const response = responseTo(request);
      const sender = senderOf(request);
      const place = addressKey(sender.address);
      await limiter.admitRefused(place, response);
      const viewer = await viewerOf(authorization, sender).catch(async (error: unknown) => {
        await limiter.countRefusal(place);
        throw error;
      });
      const countedAs = viewer.kind === 'KEY' ? `key ${viewer.keyId}` : place;
      if (countedAs !== place) await limiter.admitRefused(countedAs, response);
      await limiter.admit(countedAs, response);
      const admitted: Admitted = { viewer, address: sender.address, countedAs };
      inside.set(request, admitted);
      return admitted;
    },

    recheck: async (request, authorization) => {
      await viewerOf(authorization, senderOf(request));
    },

    countRefusal: ({ countedAs }) => limiter.countRefusal(countedAs),

    report: async (request, requestId, error) => {
      if (!(error instanceof DomainError) || !isDenial(error.code)) return;
      const admitted = inside.get(request);
      if (admitted !== undefined) await limiter.countRefusal(admitted.countedAs);
      const claimed = admitted === undefined ? claimedKeyId(request.headers.authorization ?? '') : undefined;
      // Express strips what its routers were mounted at from `url`.
      const url =
        'originalUrl' in request && typeof request.originalUrl === 'string' ? request.originalUrl : (request.url ?? '');
      const path = url.split('?', 1).join('').slice(0, 200);
      const act = {
        viewer: admitted?.viewer ?? NOBODY,
        address: admitted?.address ?? senderOf(request).address,
        requestId,
        action: `${request.method ?? 'GET'} ${path}`,
        subject: claimed ?? null,
      };
      await audit
        .denied(act, error.code)
        .catch((failure: unknown) =>
          logger.error({ err: failure, requestId }, 'a refusal could not be written into the audit log'),
        );
    },
  };
}

/** Express knows it; a socket has none. */
function responseTo(request: IncomingMessage): ServerResponse | undefined {
  return 'res' in request && request.res instanceof ServerResponse ? request.res : undefined;
}
