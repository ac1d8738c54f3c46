/**
 * Sign-in and sign-out of a browser: `POST /session` with a key in its Authorization header sets a session cookie that
 * replaces the key, `DELETE /session` ends the session. The pages never store the key itself.
 */
import { Router } from 'express';
import { DomainError } from '../errors.ts';
import type { SessionService } from '../modules/access/index.ts';
import type { AuditService } from '../modules/audit/index.ts';
import type { RunAdmitted } from './gate.ts';
import type { SessionCookie } from './session-cookie.ts';

export interface SessionOptions {
  readonly sessions: SessionService;
  readonly audit: Pick<AuditService, 'record'>;
  readonly cookie: SessionCookie;
  readonly runAdmitted: RunAdmitted;
}

const PATH = '/session';

export function createSessions({ sessions, audit, cookie, runAdmitted }: SessionOptions): Router {
  const router = Router();
  router.post(PATH, async (request, response) => {
    const { session, token } = await runAdmitted(request, ({ viewer, address }) => {
      // A session cannot renew itself.
      if (request.headers.authorization === undefined)
        throw refusal('A key is needed to sign in.', 'Send it as "Authorization: Bearer pfn_...".');
      return audit.record(
        { viewer, address, requestId: String(response.locals.requestId), action: `POST ${PATH}`, subject: null },
        () => sessions.signIn(viewer, address, cookie.tokenOf(request)),
      );
    });
    cookie.set(request, response, token, session.expiresAt);
    response.status(201).set('Cache-Control', 'no-store').json({ id: session.id, expiresAt: session.expiresAt });
  });
  router.delete(PATH, async (request, response) => {
    await runAdmitted(request, ({ viewer, address }) => {
      const token = request.headers.authorization === undefined ? cookie.tokenOf(request) : undefined;
      if (token === undefined) throw refusal('The request has no session.', 'Sign in first.');
      return audit.record(
        { viewer, address, requestId: String(response.locals.requestId), action: `DELETE ${PATH}`, subject: null },
        () => sessions.signOut(token),
      );
    });
    cookie.clear(request, response);
    response.status(204).end();
  });
  router.all(PATH, (_request, response) => {
    response.setHeader('Allow', 'DELETE, POST');
    response.sendStatus(405);
  });
  return router;
}

function refusal(message: string, hint: string): DomainError {
  return new DomainError({ code: 'UNAUTHENTICATED', message, hint });
}
