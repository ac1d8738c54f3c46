/** The identity of a set of embeddings, and the blocks in which a run stores one. */
import { createHash } from 'node:crypto';
import { z } from 'zod';
import { sha256Schema, storedBytesSchema } from './artifacts.ts';
import type { InputContract } from './checkpoint.ts';

const count = z.number().int().min(0);

/** The key that identifies a set uniquely. */
export const embeddingKeySchema = z.strictObject({
  /** sha256 of the stored weights of the encoder; for COLOUR_STATISTICS, of the method's name. */
  encoderDigest: z.string(),
  datasetDigest: z.string(),
  preparationDigest: z.string(),
});
export type EmbeddingKey = Readonly<z.infer<typeof embeddingKeySchema>>;

export const embeddingSourceSchema = z.enum(['CHECKPOINT', 'RANDOM_ENCODER', 'COLOUR_STATISTICS']);
export type EmbeddingSource = z.infer<typeof embeddingSourceSchema>;

/** A stored set. */
export const embeddingSetSchema = z.object({
  imageCount: count,
  embeddingDim: count,
  /** sha256 of the .npy: float32 `[imageCount, embeddingDim]`, in the order of the manifest. */
  sha256: sha256Schema,
});

/** The engine and device that computed numbers; another one's differ in their last bits. */
export const engineFactsSchema = z.record(z.string(), z.unknown());

export const newEmbeddingSetSchema = embeddingKeySchema.extend({
  source: embeddingSourceSchema,
  imageCount: count,
  embeddingDim: count,
  rows: storedBytesSchema,
  ids: storedBytesSchema,
  engine: engineFactsSchema,
});

/** Consecutive rows of a set that a run has not finished. */
export const embeddingBlockSchema = z.object({
  /** 0 for the first rows. */
  position: count,
  imageCount: count,
  /** sha256 of float32 `[imageCount, embeddingDim]`, without a header. */
  sha256: sha256Schema,
});

export const newEmbeddingBlockSchema = z.strictObject({
  key: embeddingKeySchema,
  position: count,
  imageCount: count,
  rows: storedBytesSchema,
  engine: engineFactsSchema,
});

/**
 * sha256 over the fields of a contract that affect image preparation. Its resolution is left out, because it changes no
 * pixel.
 */
export function preparationDigestOf(contract: InputContract): string {
  const { imageSizePx, resizeRule, channelOrder, valueRange, channelMean, channelStd, embeddingLayer } = contract;
  const { pooling } = contract;
  return sha256Of(
    JSON.stringify([
      imageSizePx,
      resizeRule,
      channelOrder,
      valueRange,
      channelMean,
      channelStd,
      embeddingLayer,
      ...interpolationKey(contract),
      // Left out where contracts of the first version imply it, so that sets from before are still found.
      ...(pooling === 'AVGPOOL' ? [] : [pooling]),
    ]),
  );
}

/** Empty for the interpolation that contracts of the first version imply. */
function interpolationKey({ interpolation }: Pick<InputContract, 'interpolation'>): string[] {
  return interpolation === 'BILINEAR' ? [] : [interpolation];
}

/** Increase this number when the computation changes. */
const COLOUR_METHOD = 'colour-statistics-1';

/**
 * The part of a key that identifies colour statistics. They are measured on the pixels that an encoder sees, but
 * before its normalisation, so all encoders of one image size share them.
 */
export function colourStatisticsKey({
  imageSizePx,
  resizeRule,
  interpolation,
}: Pick<InputContract, 'imageSizePx' | 'resizeRule' | 'interpolation'>): Pick<
  EmbeddingKey,
  'encoderDigest' | 'preparationDigest'
> {
  return {
    encoderDigest: sha256Of(COLOUR_METHOD),
    preparationDigest: sha256Of(JSON.stringify([imageSizePx, resizeRule, ...interpolationKey({ interpolation })])),
  };
}

function sha256Of(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}
