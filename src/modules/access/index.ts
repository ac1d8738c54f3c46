/** Access: authentication of requests and authorisation by role and key. */
import type { Database } from '../../platform/db.ts';
import { createAccessService as createService, type AccessService, type AccessServiceParts } from './access.service.ts';
import { createAccessStore } from './access.store.ts';
import { createSessionStore } from './sessions.store.ts';

export {
  ACCESS_ACTIONS,
  ACCESS_ROLES,
  authorise,
  authoriseChange,
  bearerKey,
  claimedKeyId,
  personOf,
  UNLIMITED,
  type AccessAction,
  type AccessRole,
  type KeyScopes,
  type Viewer,
} from './access.rules.ts';
export type { AccessService, AdminKeyState, CreatedKey } from './access.service.ts';
export type { AccessKeyRecord, KeyFilter } from './access.store.ts';
export { SESSIONS_PER_KEY_MAX, type StartedSession, type SessionService } from './sessions.service.ts';
export type { SessionFilter, SessionRecord } from './sessions.store.ts';

export function createAccessService({
  db,
  ...parts
}: { readonly db: Database } & Omit<AccessServiceParts, 'store' | 'sessionStore'>): AccessService {
  return createService({ ...parts, store: createAccessStore(db), sessionStore: createSessionStore(db) });
}
