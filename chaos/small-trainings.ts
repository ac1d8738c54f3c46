/** What a trial asks of a registry: one version of drawn images, and small runs on it that are all the same. */
import { z } from 'zod';
import type { RegistryClient } from '../src/cli/demo/client.ts';
import type { Waiting } from './waiting.ts';

export const ENDED: readonly string[] = ['SUCCEEDED', 'FAILED', 'CANCELED'];

export interface DrawnImages {
  /** Of the dataset. */
  readonly name: string;
  /** A folder of images, one subfolder for each label. */
  readonly folder: string;
  readonly waiting: Waiting;
  readonly deadlineMs: number;
}

/** @returns the id of the sealed version. @throws Error with the reason of an import that did not succeed. */
export async function importImages(
  client: RegistryClient,
  { name, folder, waiting, deadlineMs }: DrawnImages,
): Promise<string> {
  const made = z.object({ createDataset: z.object({ dataset: z.object({ id: z.string() }) }) });
  const { createDataset } = await client.request(
    made,
    'mutation ($name: String!) { createDataset(input: { name: $name, imageKind: PATCH, synthetic: true, organs: [], stains: ["HE"], tasks: [CLASSIFICATION] }) { dataset { id } } }',
    { name },
  );
  const launched = z.object({ importDatasetVersion: z.object({ run: z.object({ id: z.string() }) }) });
  const { importDatasetVersion } = await client.request(
    launched,
    'mutation ($input: ImportDatasetVersionInput!) { importDatasetVersion(input: $input) { run { id } } }',
    { input: { datasetId: createDataset.dataset.id, path: folder, layout: 'FOLDER_PER_LABEL' } },
  );
  const { id } = importDatasetVersion.run;
  const imported = z.object({
    run: z.object({
      ...{ status: z.string(), failure: z.object({ message: z.string() }).nullable() },
      datasetVersion: z.object({ id: z.string() }).nullable(),
    }),
  });
  let run: z.infer<typeof imported>['run'] | undefined;
  await waiting.until(
    'an import',
    async () => {
      const query = 'query ($id: ID!) { run(id: $id) { status failure { message } datasetVersion { id } } }';
      ({ run } = await client.request(imported, query, { id }));
      return ENDED.includes(run.status);
    },
    deadlineMs,
  );
  if (run?.status !== 'SUCCEEDED' || run.datasetVersion === null)
    throw new Error(`The import ended as ${run?.status}: ${run?.failure?.message ?? 'without a reason'}`);
  return run.datasetVersion.id;
}

export interface SmallTraining {
  readonly modelSlug: string;
  readonly versionId: string;
  readonly steps: number;
  readonly checkpointEverySteps: number;
}

/** Launches a training on two images of 32 px a step. @returns the id of its run. */
export async function launchTraining(
  client: RegistryClient,
  { modelSlug, versionId, steps, checkpointEverySteps }: SmallTraining,
): Promise<string> {
  const launched = z.object({ launchPretraining: z.object({ run: z.object({ id: z.string() }) }) });
  const input = {
    ...{ modelSlug, steps, checkpointEverySteps, seed: 1 },
    ...{ datasets: [{ datasetVersionId: versionId }], encoder: 'RESNET18', imageSizePx: 32, batchSize: 2 },
    // Trainings of a few steps would spend most of their time probing, but faults should occur during training steps.
    probe: { enabled: false },
  };
  const { launchPretraining } = await client.request(
    launched,
    'mutation ($input: LaunchPretrainingInput!) { launchPretraining(input: $input) { run { id } } }',
    { input },
  );
  return launchPretraining.run.id;
}

/** Launches a linear probe of a small training's checkpoint. @returns the id of its run. */
export async function launchEvaluation(
  client: RegistryClient,
  { checkpointId, versionId }: { readonly checkpointId: string; readonly versionId: string },
): Promise<string> {
  const launched = z.object({ launchEvaluation: z.object({ run: z.object({ id: z.string() }) }) });
  const input = { checkpointId, datasetVersionId: versionId, folds: 2, seed: 1, options: { bootstrapResamples: 100 } };
  const answer = await client.request(
    launched,
    'mutation ($input: LaunchEvaluationInput!) { launchEvaluation(input: $input) { run { id } } }',
    { input },
  );
  return answer.launchEvaluation.run.id;
}
