/** An encoder's network as data: the family that builds it, and the specification that the family understands. */
import { z } from 'zod';

export const architectureSchema = z.strictObject({
  /** The family's name in upper case: RESNET. */
  family: z.string().regex(/^[A-Z][A-Z0-9_]*$/),
  /** Checked by the family's own schema. */
  specification: z.record(z.string(), z.json()),
});
export type Architecture = z.infer<typeof architectureSchema>;

/** How the output of the network becomes one embedding; AVGPOOL is the mean over the pixels of a feature map. */
export const POOLINGS = ['AVGPOOL', 'CLS', 'MEAN', 'CLS_AND_MEAN'] as const;
export type Pooling = (typeof POOLINGS)[number];

/**
 * The dtype in which an encoder's weights are stored, most precise first. Computations are in float32, which holds the
 * values of all three exactly.
 */
export const WEIGHTS_DTYPES = ['FLOAT32', 'FLOAT16', 'BFLOAT16'] as const;
export type WeightsDtype = (typeof WEIGHTS_DTYPES)[number];

/** One tensor of an encoder's state dict, under the names and layouts of its ecosystem. */
export interface EncoderTensorSpec {
  readonly name: string;
  /** Convolutions are OIHW, linear layers [out, in]; batch counts are scalars, `[]`. */
  readonly shape: readonly number[];
  /**
   * WEIGHT: a training changes it. STATISTIC: the running mean or variance of a batch norm. BATCH_COUNT: an integer
   * that no computation uses; the others are floating point.
   */
  readonly kind: 'WEIGHT' | 'STATISTIC' | 'BATCH_COUNT';
  /** False for batch counts, which PyTorch before 0.4.1 did not write: absent means 0. */
  readonly required: boolean;
}
