/** The demo's operations: one function for each operation of a lab tool. */
import { z } from 'zod';
import { createStatusLine, progressBar } from '../terminal.ts';
import type { RegistryClient } from './client.ts';
import type { DemoDataset } from './images.ts';
import type { ImportQuestion } from '../../protocol/import.ts';

const userErrors = z.array(
  z.object({ code: z.string(), field: z.string().nullable(), message: z.string(), hint: z.string().nullable() }),
);
const USER_ERRORS = 'userErrors { code field message hint }';
const runPayload = z.object({ run: z.object({ id: z.string() }).nullable(), userErrors });

/** The payload's object. @throws Error with the server's own message. */
function objectOf<Value>(value: Value | null, errors: z.infer<typeof userErrors>): Value {
  const [first] = errors;
  if (first !== undefined) throw new Error(`${first.code} ${first.field ?? ''}: ${first.message} ${first.hint ?? ''}`);
  if (value === null) throw new Error('The answer of the server contains neither an object nor an error.');
  return value;
}

/** The id of the dataset with this slug, which is created if the catalogue has none. */
export async function ensureDataset(client: RegistryClient, dataset: DemoDataset, synthetic: boolean): Promise<string> {
  const found = await client.request(
    z.object({ dataset: z.object({ id: z.string() }).nullable() }),
    'query ($slug: String!) { dataset(slug: $slug) { id } }',
    { slug: dataset.slug },
  );
  if (found.dataset !== null) return found.dataset.id;
  const created = await client.request(
    z.object({ createDataset: z.object({ dataset: z.object({ id: z.string() }).nullable(), userErrors }) }),
    `mutation ($input: CreateDatasetInput!) { createDataset(input: $input) { dataset { id } ${USER_ERRORS} } }`,
    {
      input: {
        slug: dataset.slug,
        name: dataset.name,
        imageKind: 'PATCH',
        synthetic,
        stains: synthetic ? ['HE'] : [],
        organs: [],
        tasks: ['CLASSIFICATION'],
      },
    },
  );
  return objectOf(created.createDataset.dataset, created.createDataset.userErrors).id;
}

export async function launchImport(
  client: RegistryClient,
  datasetId: string,
  dataset: DemoDataset,
  accept: readonly ImportQuestion[] = [],
): Promise<string> {
  const { importDatasetVersion } = await client.request(
    z.object({ importDatasetVersion: runPayload }),
    `mutation ($input: ImportDatasetVersionInput!) { importDatasetVersion(input: $input) { run { id } ${USER_ERRORS} } }`,
    {
      input: {
        datasetId,
        path: dataset.path,
        layout: dataset.layout,
        labelsCsvPath: dataset.labelsCsvPath,
        patchSizePx: dataset.patchSizePx,
        accept,
      },
    },
  );
  return objectOf(importDatasetVersion.run, importDatasetVersion.userErrors).id;
}

const importedSchema = z.object({
  run: z.object({
    datasetVersion: z.object({
      id: z.string(),
      imageCount: z.number(),
      digest: z.string(),
      groupCount: z.number(),
      ungroupedImageCount: z.number().nullable(),
      labelCounts: z.array(z.object({ label: z.string(), count: z.number() })),
      issues: z.array(z.object({ kind: z.string(), count: z.number(), kept: z.boolean() })),
    }),
  }),
});
export type ImportedVersion = z.infer<typeof importedSchema>['run']['datasetVersion'];

export async function importedVersion(client: RegistryClient, runId: string): Promise<ImportedVersion> {
  const query =
    'query ($id: ID!) { run(id: $id) { datasetVersion { id imageCount digest groupCount ungroupedImageCount labelCounts { label count } issues { kind count kept } } } }';
  return (await client.request(importedSchema, query, { id: runId })).run.datasetVersion;
}

export async function launchPretraining(client: RegistryClient, input: Record<string, unknown>): Promise<string> {
  const { launchPretraining: payload } = await client.request(
    z.object({ launchPretraining: runPayload }),
    `mutation ($input: LaunchPretrainingInput!) { launchPretraining(input: $input) { run { id } ${USER_ERRORS} } }`,
    { input },
  );
  return objectOf(payload.run, payload.userErrors).id;
}

export async function launchEvaluation(
  client: RegistryClient,
  checkpointId: string,
  datasetVersionId: string,
): Promise<string> {
  const { launchEvaluation: payload } = await client.request(
    z.object({ launchEvaluation: runPayload }),
    `mutation ($input: LaunchEvaluationInput!) { launchEvaluation(input: $input) { run { id } ${USER_ERRORS} } }`,
    { input: { checkpointId, datasetVersionId, protocol: 'LINEAR_PROBE', seed: 1 } },
  );
  return objectOf(payload.run, payload.userErrors).id;
}

/** Follows a run by subscription to its end, with a progress line. @throws Error when it does not succeed. */
export async function followRun(
  client: RegistryClient,
  title: string,
  runId: string,
  output: NodeJS.WriteStream = process.stdout,
): Promise<Record<string, number>> {
  const status = createStatusLine(output);
  let progress = 0;
  let metrics: Record<string, number> = {};
  let message = '';
  let ended = '';
  for await (const event of client.follow(runId)) {
    progress = event.progress ?? progress;
    metrics = event.metrics ?? metrics;
    message = event.message ?? message;
    ended = event.kind;
    const numbers =
      metrics['loss'] === undefined
        ? message
        : `step ${metrics['step'] ?? 0}  loss ${metrics['loss'].toFixed(3)}  ${(metrics['imagesPerSecond'] ?? 0).toFixed(1)} images/s`;
    status.show(`${title} ${progressBar(progress)} ${String(Math.round(progress * 100)).padStart(3)} %  ${numbers}`);
  }
  status.end();
  if (ended !== 'SUCCEEDED') {
    const { run } = await client.request(
      z.object({
        run: z.object({
          failure: z.object({ code: z.string(), message: z.string(), hint: z.string().nullable() }).nullable(),
        }),
      }),
      'query ($id: ID!) { run(id: $id) { failure { code message hint } } }',
      { id: runId },
    );
    throw new Error(
      `${title} ended as ${ended}: ${run.failure?.code ?? ''} ${run.failure?.message ?? message} ${run.failure?.hint ?? ''}`,
    );
  }
  return metrics;
}

const checkpointSchema = z.object({
  run: z.object({
    config: z.object({ encoder: z.string(), steps: z.number() }),
    explanation: z.array(z.string()),
    checkpoints: z.array(
      z.object({
        id: z.string(),
        encoder: z.string(),
        sha256: z.string(),
        byteSize: z.number(),
        downloadUrl: z.string(),
        inputContract: z.object({ imageSizePx: z.number() }),
        golden: z.object({ images: z.string(), embeddings: z.array(z.array(z.number())) }),
        probe: z.object({ sentence: z.string(), advice: z.string().nullable() }).nullable(),
      }),
    ),
    metrics: z.array(
      z.object({ name: z.string(), points: z.array(z.object({ step: z.number(), value: z.number() })) }),
    ),
  }),
});
export type PretrainedRun = z.infer<typeof checkpointSchema>['run'];

/** The checkpoint that a finished pretraining registered, with its metrics. */
export async function pretrainedRun(client: RegistryClient, runId: string): Promise<PretrainedRun> {
  const query = `query ($id: ID!) { run(id: $id) {
    config
    explanation
    checkpoints {
      id encoder sha256 byteSize downloadUrl inputContract { imageSizePx } golden probe { sentence advice }
    }
    metrics(names: ["loss", "imagesPerSecond"]) { name points { step value } }
  } }`;
  return (await client.request(checkpointSchema, query, { id: runId })).run;
}

const metricSchema = z.object({
  name: z.string(),
  value: z.number(),
  ci95Low: z.number().nullable(),
  ci95High: z.number().nullable(),
});
const evaluationSchema = z.object({
  run: z.object({
    evaluation: z.object({
      protocol: z.string(),
      groupsKnown: z.boolean().nullable(),
      intervalCaveat: z.string().nullable(),
      metrics: z.array(metricSchema),
      baselines: z.array(
        z.object({ kind: z.string(), metrics: z.array(metricSchema), differences: z.array(metricSchema) }),
      ),
    }),
  }),
});
export type EvaluationAnswer = z.infer<typeof evaluationSchema>['run']['evaluation'];

export async function evaluationOf(client: RegistryClient, runId: string): Promise<EvaluationAnswer> {
  const query =
    'query ($id: ID!) { run(id: $id) { evaluation { protocol groupsKnown intervalCaveat metrics { name value ci95Low ci95High } baselines { kind metrics { name value ci95Low ci95High } differences { name value ci95Low ci95High } } } } }';
  return (await client.request(evaluationSchema, query, { id: runId })).run.evaluation;
}

export async function datasetCount(client: RegistryClient): Promise<number> {
  return (
    await client.request(
      z.object({ datasets: z.object({ totalCount: z.number() }) }),
      '{ datasets(first: 1) { totalCount } }',
    )
  ).datasets.totalCount;
}
