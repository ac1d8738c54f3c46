/** What people see of workers and tell them. */
import { DomainError } from '../../errors.ts';
import type { Transact } from '../../platform/db.ts';
import { authorise, type Viewer } from '../access/index.ts';
import type { WorkerRecord } from './workers.records.ts';
import type { WorkerStore } from './workers.store.ts';

export interface WorkerService {
  /** Every worker that was heard in the last week, by name. */
  list(viewer: Viewer): Promise<WorkerRecord[]>;
  /**
   * A draining worker takes no more runs, and ends those that it has; `isDraining` false lets it take runs again.
   * @throws DomainError NOT_FOUND for a name that no worker has.
   */
  drain(viewer: Viewer, name: string, isDraining: boolean): Promise<WorkerRecord>;
}

export interface WorkerServiceParts {
  readonly store: WorkerStore;
  readonly transact: Transact;
}

export function createWorkerService({ store, transact }: WorkerServiceParts): WorkerService {
  return {
    list: async (viewer) => {
      authorise(viewer, 'READER');
      return store.list();
    },
    drain: async (viewer, name, isDraining) => {
      authorise(viewer, 'OPERATOR');
      return transact(async (tx) => {
        const isKnown = await store.setDraining(tx, name, isDraining);
        const worker = isKnown ? (await store.list(tx)).find((each) => each.name === name) : undefined;
        if (worker !== undefined) return worker;
        throw new DomainError({
          code: 'NOT_FOUND',
          message: 'No worker has this name.',
          field: 'name',
          hint: 'List the workers with the query `workers`.',
        });
      });
    },
  };
}
