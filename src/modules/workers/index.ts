/** Workers: the processes that execute runs, and what they may do in the registry. */
import { transactionsOf, type Database, type Transact } from '../../platform/db.ts';
import type { ArtifactStore } from '../../platform/artifact-store/index.ts';
import { createArtifactService } from '../artifacts/index.ts';
import { createDatasetService } from '../datasets/index.ts';
import { createEmbeddingCache } from '../embeddings/index.ts';
import { createEvaluationRegister } from '../evaluations/index.ts';
import { createExportRegister } from '../exports/index.ts';
import { createModelService } from '../models/index.ts';
import { createLedger, createPartLedger } from '../runs/index.ts';
import { createClaimService, type ClaimService, type ClaimServiceParts } from './claims.service.ts';
import { createPartDesk, type PartDesk } from './part-calls.service.ts';
import { createRunDesk, type RunDesk } from './run-calls.service.ts';
import { createWorkerService, type WorkerService } from './workers.service.ts';
import { createWorkerStore } from './workers.store.ts';

export { removeUploadsOfLostRuns, storeWriterOf, uploadOwnerOf, type RunUploadPlaces } from './run-uploads.ts';
export { isRunToken } from './tokens.rules.ts';
export { createWorkerLoaders, type WorkerLoaders } from './workers.loaders.ts';
export type { WorkerRecord } from './workers.records.ts';
export type { WorkerService } from './workers.service.ts';

/** Everything that workers ask of the registry. */
export interface WorkerDesk extends ClaimService {
  /** The calls of the process that holds a lease of a run. */
  readonly calls: RunDesk;
  /** Those of a process that has a part of a run. */
  readonly partCalls: PartDesk;
}

export interface WorkerDeskParts extends Omit<
  ClaimServiceParts,
  'ledger' | 'partLedger' | 'claims' | 'partClaims' | 'workers'
> {
  /** Connections of its own, so that the load of clients does not delay a renewal. */
  readonly db: Database;
  readonly transact: Transact;
  /**
   * One connection for claims, which are tried one after another: each would otherwise wait behind the reports of all
   * workers that carry a run. Default: `db`.
   */
  readonly claimsDb?: Database;
  readonly store: ArtifactStore;
}

export async function createWorkerDesk({
  db,
  transact,
  claimsDb,
  store,
  ...parts
}: WorkerDeskParts): Promise<WorkerDesk> {
  const ledger = createLedger(db, transact);
  const partLedger = createPartLedger(db, { transact, ledger });
  const forClaims = claimsDb ?? db;
  const transactClaim = claimsDb === undefined ? transact : transactionsOf(claimsDb);
  const claims = createLedger(forClaims, transactClaim);
  const service = await createClaimService({
    ...parts,
    ledger,
    partLedger,
    claims,
    partClaims: createPartLedger(forClaims, { transact: transactClaim, ledger: claims }),
    workers: createWorkerStore(forClaims),
  });
  return { ...service, calls: createCalls({ db, transact, store }), partCalls: createPartDesk({ partLedger, store }) };
}

/** What people see of workers and tell them. */
export function createWorkers(db: Database, { transact }: { readonly transact: Transact }): WorkerService {
  return createWorkerService({ store: createWorkerStore(db), transact });
}

/** The calls of runs alone, for a process that has claimed its run in another way. */
export function createCalls({ db, transact, store }: Pick<WorkerDeskParts, 'db' | 'transact' | 'store'>): RunDesk {
  const ledger = createLedger(db, transact);
  return createRunDesk({
    ledger,
    partLedger: createPartLedger(db, { transact, ledger }),
    store,
    datasets: createDatasetService({ db, transact }),
    models: createModelService({ db, transact }),
    embeddings: createEmbeddingCache(db),
    evaluations: createEvaluationRegister(db),
    exports: createExportRegister(db),
    artifacts: createArtifactService({ db, store }),
  });
}
