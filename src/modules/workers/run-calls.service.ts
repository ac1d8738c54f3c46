/** The registry's side of the calls of a run's process (src/protocol/run-calls.ts). */
import type { z } from 'zod';
import { DomainError } from '../../errors.ts';
import { parseInput } from '../../input.ts';
import { RUN_CALLS, type RunCallName } from '../../protocol/run-calls.ts';
import type { RunLease } from '../../protocol/runs.ts';
import type { ArtifactStore } from '../../platform/artifact-store/index.ts';
import type { Transaction } from '../../platform/db.ts';
import { TRAINING_STATE_MEDIA_TYPE } from '../artifacts/index.ts';
import type { EmbeddingCache } from '../embeddings/index.ts';
import { CancelRequestedError, leaseLost, type PartLedger, type RunLedger, type RunRecord } from '../runs/index.ts';
import { requireSameLaunch } from './frozen-config.rules.ts';
import { artifactsOfOutcome, registerEncoder, registerOutcome, type Registers } from './outcomes.ts';
import { requireStored } from './stored.ts';

/** What the calls read and write. */
export interface RunDeskParts extends Registers {
  readonly ledger: RunLedger;
  readonly partLedger: PartLedger;
  readonly store: Pick<ArtifactStore, 'stat'>;
  readonly embeddings: EmbeddingCache;
}

/**
 * Answers the calls of the process that holds a lease.
 * @throws DomainError BAD_INPUT for an input that does not match the schema of the call, and those that the call names.
 */
export type RunDesk = (lease: RunLease) => Readonly<Record<RunCallName, (input: unknown) => Promise<unknown>>>;

/** Validates what comes in and what goes out: the answer has the fields of the protocol and no others. */
export function checked<Input, Answer>(
  { input, output }: { readonly input: z.ZodType<Input>; readonly output: z.ZodType<unknown, Answer> },
  answer: (input: Input) => Promise<Answer>,
): (input: unknown) => Promise<unknown> {
  return async (raw) => output.parse(await answer(parseInput(input, raw)));
}

export function createRunDesk(parts: RunDeskParts): RunDesk {
  const { ledger, partLedger, store, datasets, models, embeddings, artifacts } = parts;
  return (lease) => {
    const { runId } = lease;
    const write = async (work: (tx: Transaction, run: RunRecord) => Promise<void>): Promise<null> => {
      await ledger.withLeasedRun(lease, work);
      return null;
    };
    const after = async (work: Promise<unknown>): Promise<null> => {
      await work;
      return null;
    };
    return {
      sealedVersions: checked(RUN_CALLS.sealedVersions, async ({ ids }) => [
        ...(await datasets.requireSealedVersions(ids)),
      ]),
      latestVersion: checked(
        RUN_CALLS.latestVersion,
        async ({ datasetId }) => (await datasets.latestVersionOf(datasetId)) ?? null,
      ),
      lineages: checked(RUN_CALLS.lineages, async ({ datasetIds }) =>
        [...(await datasets.lineagesOf(datasetIds))].map(([datasetId, lineage]) => ({ datasetId, ...lineage })),
      ),
      checkpoint: checked(RUN_CALLS.checkpoint, ({ id }) => models.checkpointForUse(id, 'checkpointId')),
      pretrainingData: checked(RUN_CALLS.pretrainingData, ({ checkpointId }) => models.pretrainingOf(checkpointId)),
      embeddingSet: checked(RUN_CALLS.embeddingSet, async ({ key }) => (await embeddings.findForUse(key)) ?? null),
      embeddingBlocks: checked(RUN_CALLS.embeddingBlocks, ({ key, engine }) => embeddings.blocks(runId, key, engine)),
      latestTrainingState: checked(
        RUN_CALLS.latestTrainingState,
        async () => (await ledger.latestTrainingState(runId)) ?? null,
      ),
      bestTrainingState: checked(
        RUN_CALLS.bestTrainingState,
        async () => (await ledger.bestTrainingState(runId)) ?? null,
      ),

      importBlocks: checked(RUN_CALLS.importBlocks, () => ledger.importBlocks(runId)),
      keepImportBlock: checked(RUN_CALLS.keepImportBlock, async ({ block }) => {
        await requireStored(store, [block.facts, ...(block.shard === null ? [] : [block.shard])]);
        return after(ledger.keepImportBlock(lease, block));
      }),

      planParts: checked(RUN_CALLS.planParts, async ({ parts: planned }) => {
        await requireStored(
          store,
          planned.map(({ plan }) => plan),
        );
        return after(partLedger.plan(lease, planned));
      }),
      takePart: checked(RUN_CALLS.takePart, ({ number }) => partLedger.take(lease, number)),

      renew: checked(RUN_CALLS.renew, async ({ busySeconds }) => {
        const renewal = await ledger.renew(lease, busySeconds);
        if (renewal !== undefined) return renewal;
        throw leaseLost();
      }),
      setEnvironment: checked(RUN_CALLS.setEnvironment, ({ environment }) =>
        after(ledger.setEnvironment(lease, environment)),
      ),
      freezeConfig: checked(RUN_CALLS.freezeConfig, async ({ config }) => {
        const run = await ledger.find(runId);
        if (run === undefined) throw leaseLost();
        requireSameLaunch(run, config);
        return after(ledger.freezeConfig(lease, config));
      }),
      setImportReport: checked(RUN_CALLS.setImportReport, async ({ report }) => {
        if (report.issueList != null) await requireStored(store, [report.issueList]);
        return after(ledger.setImportReport(lease, { ...report }));
      }),
      report: checked(RUN_CALLS.report, (report) => after(ledger.report(lease, report))),
      keepTrainingState: checked(RUN_CALLS.keepTrainingState, async ({ state, byteSize }) => {
        await requireStored(store, [{ sha256: state.sha256, byteSize }]);
        return write(async (tx) => {
          await artifacts.record(tx, { sha256: state.sha256, byteSize, mediaType: TRAINING_STATE_MEDIA_TYPE });
          await ledger.keepTrainingState(tx, lease, state);
        });
      }),
      registerEncoder: checked(RUN_CALLS.registerEncoder, async ({ encoder }) => {
        await requireStored(store, [encoder.weights]);
        return write((tx, run) => registerEncoder(parts, tx, run, encoder));
      }),
      keepEmbeddingBlocks: checked(RUN_CALLS.keepEmbeddingBlocks, async ({ blocks }) => {
        await requireStored(
          store,
          blocks.map(({ rows }) => rows),
        );
        return write(async (tx) => {
          for (const block of blocks) await embeddings.keepBlock(tx, { runId, ...block });
        });
      }),
      registerEmbeddingSet: checked(RUN_CALLS.registerEmbeddingSet, async ({ set }) => {
        await requireStored(store, [set.rows, set.ids]);
        const { encoderDigest, datasetDigest, preparationDigest } = set;
        return write(async (tx) => {
          await embeddings.register(tx, set);
          await embeddings.dropBlocks(tx, runId, { encoderDigest, datasetDigest, preparationDigest });
        });
      }),
      reportDamage: checked(RUN_CALLS.reportDamage, ({ sha256 }) => after(artifacts.reportDamage(sha256))),

      succeed: checked(RUN_CALLS.succeed, async ({ outcome, message }) => {
        await requireStored(store, artifactsOfOutcome(outcome));
        try {
          return await write(async (tx, run) => {
            if (outcome.kind !== run.kind)
              throw new DomainError({
                code: 'OUTCOME_INVALID',
                message: `The outcome is one of ${outcome.kind}, and the run is one of ${run.kind}.`,
                field: 'outcome.kind',
                hint: 'Send the outcome of the run that was claimed.',
              });
            await registerOutcome(parts, tx, run, outcome);
            await ledger.succeed(tx, lease, message);
          });
        } catch (error) {
          if (!(error instanceof CancelRequestedError)) throw error;
          return after(ledger.cancelNow(lease));
        }
      }),
      fail: checked(RUN_CALLS.fail, ({ failure }) => after(ledger.fail(lease, failure))),
      cancel: checked(RUN_CALLS.cancel, () => after(ledger.cancelNow(lease))),
      release: checked(RUN_CALLS.release, ({ message }) => after(ledger.release(lease, message))),
    };
  };
}
