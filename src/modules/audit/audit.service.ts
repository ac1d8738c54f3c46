/** The audit log: who did what, when and from where. */
import { AsyncLocalStorage } from 'node:async_hooks';
import { DomainError } from '../../errors.ts';
import type { Transact } from '../../platform/db.ts';
import type { Page, PageArguments } from '../../platform/page.ts';
import { authorise, type Viewer } from '../access/index.ts';
import {
  EMPTY_HEAD,
  faultOfLink,
  type AuditFacts,
  type AuditFault,
  type AuditHead,
  type AuditOutcome,
  type AuditRecord,
} from './audit.rules.ts';
import type { AuditFilter, AuditStore } from './audit.store.ts';

/** A request whose action will be recorded. */
export interface AuditAct {
  readonly viewer: Viewer;
  /** The client's address; null if unknown. */
  readonly address: string | null;
  readonly requestId: string;
  /** e.g. `Mutation.createKey` */
  readonly action: string;
  /** The target of the action, if known before the action is done. */
  readonly subject: string | null;
}

export interface AuditVerification {
  readonly entryCount: number;
  /** The last valid entry. */
  readonly head: AuditHead;
  /** The first fault; null if the whole log is valid. */
  readonly fault: AuditFault | null;
  /** Whether the head that was kept elsewhere is among the valid entries; true if none was given. */
  readonly hasKept: boolean;
}

export interface AuditService {
  /**
   * Does the work of a mutation. Each transaction that it commits through `transact` contains an entry, so that no
   * change goes unrecorded; work that commits nothing, is rejected or fails is recorded in a transaction of its own.
   * Denied work is not recorded here: the caller reports it with `denied`, at a limited rate.
   */
  record<Result>(act: AuditAct, work: () => Promise<Result>): Promise<Result>;
  /** Records a denied action. */
  denied(act: AuditAct, code: string): Promise<void>;
  /**
   * Behaves as the `transact` that it wraps; within `record` it also writes the entry, as the last statement before the
   * commit.
   */
  readonly transact: Transact;
  /** Newest first. */
  list(viewer: Viewer, page: PageArguments, filter: AuditFilter): Promise<Page<AuditRecord>>;
  /** Computes every hash again. Throws UNAUTHENTICATED and FORBIDDEN. */
  verify(viewer: Viewer): Promise<AuditVerification>;
}

export interface AuditServiceParts {
  readonly store: AuditStore;
  readonly transact: Transact;
  readonly now?: () => Date;
}

interface Acting {
  readonly act: AuditAct;
  committed: boolean;
}

export function createAuditService({ store, transact, now = () => new Date() }: AuditServiceParts): AuditService {
  const current = new AsyncLocalStorage<Acting>();
  const append = (act: AuditAct, outcome: AuditOutcome, code: string | null): Promise<void> =>
    transact((tx) => store.append(tx, factsOf(act, outcome, code), now()));

  return {
    record: async (act, work) => {
      const acting: Acting = { act, committed: false };
      const result = await current.run(acting, work).catch(async (error: unknown) => {
        const code = error instanceof DomainError ? error.code : 'INTERNAL';
        if (!isDenial(code)) await append(act, 'FAILED', code);
        throw error;
      });
      const rejection = userErrorOf(result);
      if (rejection !== undefined) await append(act, 'REJECTED', rejection);
      else if (!acting.committed) await append(act, 'DONE', null);
      return result;
    },

    denied: (act, code) => append(act, 'DENIED', code),

    transact: async (work) => {
      const acting = current.getStore();
      if (acting === undefined) return transact(work);
      const result = await transact(async (tx) => {
        const value = await work(tx);
        await store.append(
          tx,
          factsOf({ ...acting.act, subject: idOf(value) ?? acting.act.subject }, 'DONE', null),
          now(),
        );
        return value;
      });
      acting.committed = true;
      return result;
    },

    list: async (viewer, page, filter) => {
      authorise(viewer, 'ADMIN');
      return store.list(page, filter);
    },

    verify: async (viewer) => {
      authorise(viewer, 'ADMIN');
      return verifyChain(store);
    },
  };
}

const ENTRIES_AT_ONCE = 2_000;

/** @param kept a head that was saved earlier. */
export async function verifyChain(store: AuditStore, kept: AuditHead = EMPTY_HEAD): Promise<AuditVerification> {
  let head = EMPTY_HEAD;
  let hasKept = kept.sequence === EMPTY_HEAD.sequence;
  for (;;) {
    const entries = await store.following(head.sequence, ENTRIES_AT_ONCE);
    for (const entry of entries) {
      const fault = faultOfLink(head, entry);
      if (fault !== undefined) return { entryCount: head.sequence, head, fault, hasKept };
      head = { sequence: entry.sequence, hash: entry.hash };
      hasKept ||= head.sequence === kept.sequence && head.hash === kept.hash;
    }
    if (entries.length < ENTRIES_AT_ONCE) return { entryCount: head.sequence, head, fault: null, hasKept };
  }
}

function factsOf(
  { viewer, address, requestId, action, subject }: AuditAct,
  outcome: AuditOutcome,
  code: string | null,
): AuditFacts {
  const who =
    viewer.kind === 'KEY'
      ? { person: viewer.owner, keyId: viewer.keyId, keyName: viewer.name }
      : { person: null, keyId: null, keyName: null };
  return { ...who, address, requestId, action, subject, outcome, code };
}

export function isDenial(code: string): boolean {
  return code === 'UNAUTHENTICATED' || code === 'FORBIDDEN';
}

/** The code of the first user error in a payload. */
function userErrorOf(result: unknown): string | undefined {
  if (typeof result !== 'object' || result === null || !('userErrors' in result) || !Array.isArray(result.userErrors))
    return undefined;
  const [first]: unknown[] = result.userErrors;
  return typeof first === 'object' && first !== null && 'code' in first ? String(first.code) : undefined;
}

/** The id in a transaction's result: that of the row that it created or changed. */
function idOf(value: unknown): string | undefined {
  if (typeof value !== 'object' || value === null) return undefined;
  if ('id' in value && typeof value.id === 'string') return value.id;
  return 'key' in value ? idOf(value.key) : undefined;
}
