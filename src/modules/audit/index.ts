/** The audit log: who did what, when and from where; append-only and chained. */
import type { Database, Transact } from '../../platform/db.ts';
import {
  createAuditService as createService,
  verifyChain,
  type AuditService,
  type AuditServiceParts,
  type AuditVerification,
} from './audit.service.ts';
import type { AuditHead } from './audit.rules.ts';
import { createAuditStore } from './audit.store.ts';

export { AUDIT_OUTCOMES, type AuditHead, type AuditOutcome, type AuditRecord } from './audit.rules.ts';
export { isDenial, type AuditAct, type AuditService, type AuditVerification } from './audit.service.ts';
export type { AuditFilter } from './audit.store.ts';

export function createAuditService({
  db,
  transact,
  ...parts
}: { readonly db: Database; readonly transact: Transact } & Pick<AuditServiceParts, 'now'>): AuditService {
  return createService({ ...parts, transact, store: createAuditStore(db) });
}

/**
 * For the owner of the database, without a viewer: recomputes every hash.
 * @param kept a head that was saved earlier.
 */
export function verifyAuditLog(db: Database, kept?: AuditHead): Promise<AuditVerification> {
  return verifyChain(createAuditStore(db), kept);
}
