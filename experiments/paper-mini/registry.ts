/** The requests of the experiment that the demo does not need. */
import { z } from 'zod';
import type { RegistryClient } from '../../src/cli/demo/client.ts';

const metricsSchema = z.array(
  z.object({ name: z.string(), value: z.number(), ci95Low: z.number(), ci95High: z.number() }),
);
const leakageSchema = z.object({
  testImageCount: z.number(),
  exactImageCount: z.number().nullable(),
  sharedDatasets: z.array(z.string()),
  isUpperBound: z.boolean(),
});
const evaluationSchema = z.object({
  id: z.string(),
  metrics: metricsSchema,
  baselines: z.array(z.object({ kind: z.string(), metrics: metricsSchema })),
  leakage: leakageSchema.nullable(),
});
export type ExperimentEvaluation = z.infer<typeof evaluationSchema>;

const payloadSchema = z.object({
  run: z.object({ id: z.string() }).nullable(),
  userErrors: z.array(z.object({ code: z.string(), message: z.string() })),
});

export async function launchEvaluation(client: RegistryClient, input: Record<string, unknown>): Promise<string> {
  const query =
    'mutation ($input: LaunchEvaluationInput!) { launchEvaluation(input: $input) { run { id } userErrors { code message } } }';
  const { launchEvaluation: payload } = await client.request(z.object({ launchEvaluation: payloadSchema }), query, {
    input,
  });
  if (payload.run === null)
    throw new Error(payload.userErrors.map(({ code, message }) => `${code}: ${message}`).join(' '));
  return payload.run.id;
}

export async function evaluationOfRun(client: RegistryClient, runId: string): Promise<ExperimentEvaluation> {
  const query = `query ($id: ID!) { run(id: $id) { evaluation {
    id metrics { name value ci95Low ci95High } baselines { kind metrics { name value ci95Low ci95High } }
    leakage { testImageCount exactImageCount sharedDatasets isUpperBound }
  } } }`;
  return (await client.request(z.object({ run: z.object({ evaluation: evaluationSchema }) }), query, { id: runId })).run
    .evaluation;
}

const comparisonSchema = z.object({
  metrics: z.array(z.object({ name: z.string(), difference: z.number(), ci95Low: z.number(), ci95High: z.number() })),
  groupCount: z.number(),
});
export type ExperimentComparison = z.infer<typeof comparisonSchema>;

/** First minus second, paired over groups. */
export async function compareEvaluations(client: RegistryClient, a: string, b: string): Promise<ExperimentComparison> {
  const query =
    'query ($a: ID!, $b: ID!) { compareEvaluations(a: $a, b: $b) { groupCount metrics { name difference ci95Low ci95High } } }';
  return (await client.request(z.object({ compareEvaluations: comparisonSchema }), query, { a, b })).compareEvaluations;
}
