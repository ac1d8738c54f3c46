/** Deletes objects that nothing depends on, after authorisation, and always leaves a tombstone. */
import { DomainError, type ErrorCode } from '../../errors.ts';
import { isId, parseInput } from '../../input.ts';
import type { Transact, Transaction } from '../../platform/db.ts';
import type { Page, PageArguments } from '../../platform/page.ts';
import { authorise, type Viewer } from '../access/index.ts';
import { deleteSchema, type DeletableKind, type TombstoneRecord } from './deletions.rules.ts';
import type { DeletionStore } from './deletions.store.ts';

export interface DeletionService {
  /**
   * Deletes the row with all of its parts, and writes a tombstone in the same transaction. The next `paraffin gc`
   * deletes its bytes, if no other object references them. A repeated call returns the existing tombstone.
   * @throws DomainError BAD_INPUT, a NOT_FOUND of the kind, or CONFLICT for an object that something else needs.
   */
  delete(viewer: Viewer, kind: DeletableKind, input: unknown): Promise<TombstoneRecord>;
  get(viewer: Viewer, id: string): Promise<TombstoneRecord | undefined>;
  /** Newest first. */
  list(viewer: Viewer, page: PageArguments): Promise<Page<TombstoneRecord>>;
}

const NOT_FOUND: Readonly<Record<DeletableKind, ErrorCode>> = {
  DATASET: 'DATASET_NOT_FOUND',
  DATASET_VERSION: 'DATASET_VERSION_NOT_FOUND',
  MODEL: 'MODEL_NOT_FOUND',
  CHECKPOINT: 'CHECKPOINT_NOT_FOUND',
  RUN: 'RUN_NOT_FOUND',
};
const KIND_NAMES: Readonly<Record<DeletableKind, string>> = {
  DATASET: 'dataset',
  DATASET_VERSION: 'dataset version',
  MODEL: 'model',
  CHECKPOINT: 'checkpoint',
  RUN: 'run',
};

export interface DeletionServiceParts {
  readonly store: DeletionStore;
  readonly transact: Transact;
  /** Deletes what belonged to the deleted object alone, in the same transaction. */
  readonly dropBelongings: (tx: Transaction) => Promise<unknown>;
}

export function createDeletionService({ store, transact, dropBelongings }: DeletionServiceParts): DeletionService {
  return {
    delete: async (viewer, kind, raw) => {
      authorise(viewer, 'OPERATOR', 'DELETE');
      const { id, reason } = parseInput(deleteSchema, raw);
      return transact(async (tx) => {
        const target = await store.find(tx, kind, id);
        if (target === undefined) {
          const earlier = await store.get(id);
          if (earlier?.kind === kind) return earlier;
          throw new DomainError({
            code: NOT_FOUND[kind],
            message: `No ${KIND_NAMES[kind]} has this id.`,
            field: 'input.id',
          });
        }
        if (target.isUnderWay === true) {
          throw new DomainError({
            code: 'CONFLICT',
            message: `The ${KIND_NAMES[kind]} "${target.name}" is queued or running.`,
            field: 'input.id',
            hint: target.hint,
          });
        }
        if (target.neededBy.length > 0) {
          throw new DomainError({
            code: 'CONFLICT',
            message: `The ${KIND_NAMES[kind]} "${target.name}" is needed by ${target.neededBy.join(', ')}.`,
            field: 'input.id',
            hint: target.hint,
          });
        }
        const who =
          viewer.kind === 'KEY'
            ? { deletedBy: viewer.owner, deletedByKey: viewer.keyId }
            : { deletedBy: 'nobody', deletedByKey: null };
        const tombstone = await store.replaceByTombstone(
          tx,
          { id, kind, name: target.name, digest: target.digest, reason, ...who },
          target,
        );
        await dropBelongings(tx);
        return tombstone;
      });
    },
    get: async (viewer, id) => {
      authorise(viewer, 'READER');
      return isId(id) ? store.get(id.toLowerCase()) : undefined;
    },
    list: async (viewer, page) => {
      authorise(viewer, 'READER');
      return store.list(page);
    },
  };
}
