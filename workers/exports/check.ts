/** Checks an exported file of weights: loads it back as its users do, and compares its embeddings with the engine's. */
import { describeEncoder, type Architecture, type Pooling } from '../../src/formats/encoders/index.ts';
import type { ExportFormat } from '../../src/formats/export-formats.ts';
import { embedPixels, type Normalisation } from '../engine/embed.ts';
import type { InferenceEncoder } from '../engine/encoders/index.ts';
import { channelsFirst, CHECK_IMAGE_COUNT, checkPixels, normalisedPixels } from './check-images.ts';
import { maxRelativeDifferenceOfImages } from './difference.ts';
import { embedByOnnx } from './onnx.ts';
import { embedByTorchFile } from './pytorch.ts';
import { embedByTfjs } from './tfjs.ts';
import { MAX_RELATIVE_DIFFERENCE } from '../../src/protocol/export.ts';

/** The embeddings that every format must reproduce. */
export interface CheckReference {
  readonly architecture: Architecture;
  readonly pooling: Pooling;
  readonly normalisation: Normalisation;
  readonly imageSizePx: number;
  /** uint8 `[N, S, S, 3]` */
  readonly pixels: Uint8Array;
  /** `[N, D]`, by the engine. */
  readonly embeddings: Float32Array;
  /** D */
  readonly embeddingDim: number;
}

export type ExportVerdict =
  | { readonly passed: true; readonly maxRelativeDifference: number }
  /** No difference means that the file could not be loaded, or returned NaN. */
  | { readonly passed: false; readonly maxRelativeDifference: number | null; readonly reason: string };

/** Length limit of a library's error message. */
const MAX_REASON = 500;

/** @param contract what the weights are meant for; images have the nearest side at which every weight is used. */
export function checkReference(
  encoder: InferenceEncoder,
  architecture: Architecture,
  contract: Normalisation & { readonly imageSizePx: number; readonly pooling: Pooling },
): CheckReference {
  const { pooling } = contract;
  const imageSizePx = describeEncoder(architecture).checkSizePx(contract.imageSizePx);
  const pixels = checkPixels(imageSizePx);
  const embeddings = embedPixels(encoder, pixels, CHECK_IMAGE_COUNT, imageSizePx, contract);
  return {
    architecture,
    pooling,
    normalisation: contract,
    imageSizePx,
    pixels,
    embeddings,
    embeddingDim: encoder.embeddingDim,
  };
}

export async function checkExport(
  format: ExportFormat,
  file: Uint8Array,
  reference: CheckReference,
): Promise<ExportVerdict> {
  try {
    const maxRelativeDifference = maxRelativeDifferenceOfImages(
      await embedBy(format, file, reference),
      reference.embeddings,
      reference.embeddingDim,
    );
    if (maxRelativeDifference <= MAX_RELATIVE_DIFFERENCE) return { passed: true, maxRelativeDifference };
    if (Number.isNaN(maxRelativeDifference))
      return {
        passed: false,
        maxRelativeDifference: null,
        reason: 'The file gives embeddings that are not finite numbers.',
      };
    return {
      passed: false,
      maxRelativeDifference,
      reason: `The file's embeddings differ from the engine's by ${maxRelativeDifference.toExponential(1)}, more than ${MAX_RELATIVE_DIFFERENCE}.`,
    };
  } catch (error) {
    return {
      passed: false,
      maxRelativeDifference: null,
      reason: `The file does not load: ${error instanceof Error ? error.message : String(error)}`.slice(0, MAX_REASON),
    };
  }
}

async function embedBy(format: ExportFormat, file: Uint8Array, reference: CheckReference): Promise<Float32Array> {
  const { normalisation, imageSizePx, pixels } = reference;
  switch (format) {
    case 'PYTORCH':
      return embedByTorchFile(file, reference, CHECK_IMAGE_COUNT);
    case 'ONNX':
      return embedByOnnx(
        file,
        channelsFirst(normalisedPixels(pixels, normalisation), CHECK_IMAGE_COUNT),
        CHECK_IMAGE_COUNT,
        imageSizePx,
      );
    case 'TFJS':
      return embedByTfjs(file, normalisedPixels(pixels, normalisation), CHECK_IMAGE_COUNT, imageSizePx);
  }
}
