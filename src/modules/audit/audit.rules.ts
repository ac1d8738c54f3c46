/**
 * The hash chain of the audit log: each entry has a hash over itself and the previous entry, so that a changed, removed
 * or inserted entry is detected.
 */
import { createHash } from 'node:crypto';

export const AUDIT_OUTCOMES = ['DONE', 'REJECTED', 'DENIED', 'FAILED'] as const;
export type AuditOutcome = (typeof AUDIT_OUTCOMES)[number];

/**
 * The recorded facts of an action. Its input is never recorded, because it may contain a secret such as a signed URL.
 */
export interface AuditFacts {
  readonly person: string | null;
  readonly keyId: string | null;
  readonly keyName: string | null;
  readonly address: string | null;
  readonly requestId: string;
  readonly action: string;
  readonly subject: string | null;
  readonly outcome: AuditOutcome;
  readonly code: string | null;
}

export interface AuditRecord extends AuditFacts {
  /** From 1, without gaps. */
  readonly sequence: number;
  readonly at: Date;
  readonly previousHash: string;
  readonly hash: string;
}

/** The last entry. A copy that is kept elsewhere later proves whether the log was truncated or rewritten. */
export interface AuditHead {
  readonly sequence: number;
  readonly hash: string;
}

export const EMPTY_HEAD: AuditHead = { sequence: 0, hash: '0'.repeat(64) };

/** Hex. */
export function auditHash({
  sequence,
  at,
  person,
  keyId,
  keyName,
  address,
  requestId,
  action,
  subject,
  outcome,
  code,
  previousHash,
}: Omit<AuditRecord, 'hash'>): string {
  const row = JSON.stringify([
    sequence,
    at.toISOString(),
    person,
    keyId,
    keyName,
    address,
    requestId,
    action,
    subject,
    outcome,
    code,
  ]);
  return createHash('sha256').update(`${previousHash}\n${row}`).digest('hex');
}

export function nextEntry(head: AuditHead, facts: AuditFacts, at: Date): AuditRecord {
  const entry = {
    ...facts,
    subject: facts.subject === null ? null : printable(facts.subject),
    sequence: head.sequence + 1,
    at,
    previousHash: head.hash,
  };
  return { ...entry, hash: auditHash(entry) };
}

/** A reference that a client sent, without control characters and shortened. */
function printable(text: string): string {
  return text.slice(0, 200).replaceAll(/[^\x20-\x7e]/g, '?');
}

export interface AuditFault {
  readonly sequence: number;
  readonly message: string;
}

/** The fault of `entry` as the successor of `head`; undefined if it is valid. */
export function faultOfLink(head: AuditHead, entry: AuditRecord): AuditFault | undefined {
  const fault = (message: string): AuditFault => ({ sequence: entry.sequence, message });
  if (entry.sequence !== head.sequence + 1) return fault(`Entry ${head.sequence + 1} is missing.`);
  if (entry.previousHash !== head.hash) return fault(`Entry ${entry.sequence} does not follow the one before it.`);
  if (entry.hash !== auditHash(entry)) return fault(`Entry ${entry.sequence} was changed after it was written.`);
  return undefined;
}
