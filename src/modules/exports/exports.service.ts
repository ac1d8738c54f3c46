/** Launching exports: runs that prove a checkpoint's weights. */
import type { Transaction } from '../../platform/db.ts';
import type { ModelService } from '../models/index.ts';
import type { RunService } from '../runs/index.ts';
import type { ExportConfig } from './exports.rules.ts';
import type { ExportStore } from './exports.store.ts';

export interface ExportService {
  /**
   * For imports, in the transaction that registers the weights: queues a run that measures the checkpoint's golden embedding,
   * unless it has one or such a run is on its way. Throws CHECKPOINT_NOT_FOUND or CHECKPOINT_NOT_DOWNLOADABLE.
   */
  queueGolden(tx: Transaction, checkpointId: string): Promise<void>;
}

export interface ExportServiceParts {
  readonly store: ExportStore;
  readonly runs: RunService;
  readonly models: ModelService;
}

export function createExportService({ store, runs, models }: ExportServiceParts): ExportService {
  return {
    queueGolden: async (tx, checkpointId) => {
      await store.lockCheckpoint(tx, checkpointId);
      if ((await store.hasGolden(tx, checkpointId)) || (await store.liveRunOf(tx, checkpointId)) !== undefined) return;
      const checkpoint = await models.checkpointForUse(checkpointId, 'checkpointId', tx);
      const config: ExportConfig = { checkpointId, checkpointSha256: checkpoint.sha256 };
      await runs.enqueue({ kind: 'EXPORT', config, idempotencyKey: null, input: config }, tx);
    },
  };
}
