/** Encoders as workers and the registry exchange them: how to prepare images for one, and what proves its weights. */
import { z } from 'zod';
import {
  architectureSchema,
  NAMED_ENCODERS,
  POOLINGS,
  WEIGHTS_DTYPES,
  type Pooling,
} from '../formats/encoders/index.ts';
import { sha256Schema, storedBytesSchema } from './artifacts.ts';
import { checkpointProbeSchema } from './checkpoint-probe.ts';

/** Encoders that the engine can train. */
export const ENCODER_ARCHITECTURES = NAMED_ENCODERS;
export const encoderArchitectureSchema = z.enum(ENCODER_ARCHITECTURES);

export const RESIZE_RULES = ['SHORT_SIDE_THEN_CENTRE_CROP', 'STRETCH'] as const;
export const CHANNEL_ORDERS = ['RGB', 'BGR'] as const;
export const INTERPOLATIONS = ['BILINEAR', 'BICUBIC'] as const;

const finite = z.number();
const perChannel = (value: z.ZodNumber) => z.tuple([value, value, value]);

/**
 * The input contract: how to prepare an image for the encoder, and how its output becomes an embedding. Contracts of
 * the first version have neither `pooling` nor `interpolation`, and those before half precision was stored no
 * `weightsDtype`: they are read with the values that they implied.
 */
export const inputContractSchema = z
  .strictObject({
    imageSizePx: z.number().int().min(32).max(4096),
    resizeRule: z.enum(RESIZE_RULES),
    /** Resizing is always antialiased. */
    interpolation: z.enum(INTERPOLATIONS).default('BILINEAR'),
    channelOrder: z.enum(CHANNEL_ORDERS),
    /** Range of pixel values before mean and standard deviation are applied, e.g. [0, 1]. */
    valueRange: z.tuple([finite, finite]),
    /** Subtracted per channel, in units of valueRange. */
    channelMean: perChannel(finite),
    /** Divisor per channel, applied after the mean was subtracted. */
    channelStd: perChannel(z.number().gt(0)),
    /** Name of the layer from which the embedding comes, in the encoder's own library: avgpool, norm. */
    embeddingLayer: z.string().min(1).max(100),
    /** How the output of the network becomes one embedding. */
    pooling: z.enum(POOLINGS).default('AVGPOOL'),
    /** The least precise dtype in which a weight is stored; it follows from the file. */
    weightsDtype: z.enum(WEIGHTS_DTYPES).default('FLOAT32'),
    /** Resolution of the training images, if known. */
    micronsPerPixelMin: z.number().gt(0).nullable(),
    micronsPerPixelMax: z.number().gt(0).nullable(),
  })
  .refine(({ valueRange: [low, high] }) => low < high, {
    path: ['valueRange'],
    message: 'must be a lower and a higher value',
  })
  .refine(({ micronsPerPixelMin: low, micronsPerPixelMax: high }) => low === null || high === null || low <= high, {
    path: ['micronsPerPixelMin'],
    message: 'must not exceed micronsPerPixelMax',
  });
export type InputContract = z.infer<typeof inputContractSchema>;

/** The name of the layer whose output is pooled: torchvision's of a ResNet, timm's of a vision transformer. */
export function embeddingLayerOf(pooling: Pooling): string {
  return pooling === 'AVGPOOL' ? 'avgpool' : 'norm';
}

/** Images and the checkpoint's embeddings of them, with which a client verifies its own preprocessing. */
export const goldenSchema = z.strictObject({
  /** base64 of uint8 `[count, imageSizePx, imageSizePx, 3]`, RGB, before normalisation. */
  images: z.base64(),
  /** `[count, embeddingDim]` */
  embeddings: z.array(z.array(z.number()).readonly()).min(1).readonly(),
  /**
   * How far rounding the weights to a dtype moves the embeddings: the largest difference in any component, divided by
   * the embedding's root mean square; null if a rounded weight is infinite. Of float32 weights it is measured for each
   * narrower dtype. Of others it is measured for their own dtype: the weights before their rounding are not known, and
   * are drawn at random from those that round to the stored ones.
   */
  rounding: z
    .array(z.strictObject({ dtype: z.enum(WEIGHTS_DTYPES), maxRelativeDifference: z.number().nullable() }))
    .readonly()
    .optional(),
});
export type GoldenRecord = Readonly<z.infer<typeof goldenSchema>>;

/** A checkpoint whose weights are in the artifact store. */
export const usableCheckpointSchema = z.object({
  id: z.uuid(),
  /** Its name if it is one of those that can be trained. */
  encoder: z.enum([...NAMED_ENCODERS, 'OTHER']),
  architecture: architectureSchema,
  embeddingDim: z.number().int(),
  inputContract: inputContractSchema,
  /** Of the stored safetensors. */
  sha256: sha256Schema,
});
export type UsableCheckpoint = Readonly<z.infer<typeof usableCheckpointSchema>>;

/**
 * The training data of a checkpoint: of its own training and of the trainings before it. Checkpoints with the same
 * weights share it.
 */
export const pretrainingDataSchema = z.object({
  /** `isPart`: every training on the version used only a part of its images. */
  versions: z.array(z.object({ datasetVersionId: z.string(), isPart: z.boolean() })).readonly(),
  /**
   * False if it, or a checkpoint that its training started from, was imported and no checkpoint with the same weights
   * was trained here.
   */
  isComplete: z.boolean(),
});

/** The encoder of a step of a pretraining; everything else of its checkpoint follows from the run's config. */
export const trainedEncoderSchema = z.strictObject({
  step: z.number().int().min(0),
  probe: checkpointProbeSchema.nullable(),
  /** The safetensors of its weights. */
  weights: storedBytesSchema,
  tensorDigest: z.string(),
  golden: goldenSchema,
});
export type TrainedEncoder = Readonly<z.infer<typeof trainedEncoderSchema>>;

/** A training state: everything that a pretraining needs to continue from a step. */
export const trainingStateSchema = z.object({
  step: z.number().int().min(0),
  sha256: sha256Schema,
  /** Result of the run's own probe; null where it was not probed. */
  probe: checkpointProbeSchema.nullable(),
});
export type TrainingStateRecord = Readonly<z.infer<typeof trainingStateSchema>>;
