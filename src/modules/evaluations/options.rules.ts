/** The options of each protocol, with its ranges and defaults. Pure. */
import { z } from 'zod';
import { DomainError } from '../../errors.ts';
import { parseInput } from '../../input.ts';

export const EVALUATION_PROTOCOLS = ['LINEAR_PROBE', 'KNN', 'FINE_TUNE', 'REGRESSION'] as const;
export type EvaluationProtocolName = (typeof EVALUATION_PROTOCOLS)[number];

/** Resamples of the bootstrap over groups that gives the 95 % intervals. */
const bootstrapResamples = z
  .number()
  .int()
  .min(100, 'must be at least 100')
  .max(10_000, 'must be at most 10000')
  .default(1000);

const curveOptionsSchema = z.strictObject({
  bootstrapResamples,
  /** Label fractions for the learning curve; the protocol is trained again on each, drawn group by group. */
  labelFractions: z.array(z.number().gt(0, 'must be above 0').max(1, 'must be at most 1')).max(10).default([]),
  /** Few-shot: the number of images of each label. */
  shotsPerClass: z.array(z.number().int().min(1, 'must be at least 1').max(10_000)).max(10).default([]),
  /** Number of draws of each fraction or shot count. */
  drawCount: z.number().int().min(1, 'must be at least 1').max(100, 'must be at most 100').default(10),
});

const fineTuningOptionsSchema = z.strictObject({
  bootstrapResamples,
  maxEpochs: z.number().int().min(1, 'must be at least 1').max(500, 'must be at most 500').default(30),
  batchSize: z.number().int().min(1, 'must be at least 1').max(1024, 'must be at most 1024').default(32),
  /** Learning rate of the encoder; the classifier on top uses ten times this rate. */
  learningRate: z.number().gt(0, 'must be positive').max(10, 'must be at most 10').default(0.003),
  /** Early stopping: epochs without a better validation macro F1 after which the training ends. */
  patienceEpochs: z.number().int().min(1, 'must be at least 1').max(500, 'must be at most 500').default(5),
});

const regressionOptionsSchema = z.strictObject({ bootstrapResamples });

const frozen = {
  checkpointId: z.string(),
  checkpointSha256: z.string(),
  datasetVersionId: z.string(),
  datasetDigest: z.string(),
  folds: z.number().int(),
  seed: z.number().int(),
  /** Evaluations from before it was fixed drew the random encoder from their own seed. */
  randomEncoderSeed: z.number().int().nullable().default(null),
};

/** The config of an evaluation, frozen at launch. */
export const evaluationConfigSchema = z.discriminatedUnion('protocol', [
  z.object({ ...frozen, protocol: z.literal('LINEAR_PROBE'), options: curveOptionsSchema }),
  z.object({ ...frozen, protocol: z.literal('KNN'), options: curveOptionsSchema }),
  z.object({ ...frozen, protocol: z.literal('FINE_TUNE'), options: fineTuningOptionsSchema }),
  z.object({ ...frozen, protocol: z.literal('REGRESSION'), options: regressionOptionsSchema }),
]);
export type EvaluationConfig = z.infer<typeof evaluationConfigSchema>;
export type EvaluationOptions = EvaluationConfig['options'];

/**
 * Options with their defaults filled in. @throws DomainError BAD_INPUT at `input.options`, also for an option of
 * another protocol.
 */
export function optionsOf(protocol: EvaluationProtocolName, options: unknown): EvaluationOptions {
  // Some clients send null for every field that they do not set; null therefore counts as left out.
  const wrapped = { options: options ?? {} };
  switch (protocol) {
    case 'LINEAR_PROBE':
    case 'KNN':
      return parseInput(z.object({ options: curveOptionsSchema }), wrapped).options;
    case 'FINE_TUNE':
      return parseInput(z.object({ options: fineTuningOptionsSchema }), wrapped).options;
    case 'REGRESSION':
      return parseInput(z.object({ options: regressionOptionsSchema }), wrapped).options;
    default:
      throw new DomainError({
        code: 'BAD_INPUT',
        message: 'The evaluation protocol is unknown.',
        field: 'input.protocol',
        hint: `Use one of ${EVALUATION_PROTOCOLS.join(', ')}.`,
      });
  }
}
