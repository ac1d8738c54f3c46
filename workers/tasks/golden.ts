/** The golden embedding: a checkpoint's embedding of an image that anyone can generate. */
import { DomainError } from '../../src/errors.ts';
import { embedPixels } from '../engine/embed.ts';
import { goldenPixels } from '../engine/golden-image.ts';
import type { InferenceEncoder } from '../engine/encoders/index.ts';
import type { GoldenRecord, InputContract } from '../../src/protocol/checkpoint.ts';

/** @throws DomainError CHECKPOINT_INCOMPATIBLE for weights that yield NaN. */
export function goldenOf(encoder: Pick<InferenceEncoder, 'embed'>, inputContract: InputContract): GoldenRecord {
  const { imageSizePx } = inputContract;
  const pixels = goldenPixels(imageSizePx);
  const embedding = embedPixels(encoder, pixels, 1, imageSizePx, inputContract);
  if (!embedding.every(Number.isFinite)) {
    throw new DomainError({
      code: 'CHECKPOINT_INCOMPATIBLE',
      message: 'The encoder returns NaN or an infinite value for the golden image.',
      hint: 'Its weights contain NaN or infinite values, or do not work with this input contract.',
    });
  }
  return { images: Buffer.from(pixels).toString('base64'), embeddings: [[...embedding]] };
}
