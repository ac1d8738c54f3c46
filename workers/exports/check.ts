/** Checks an exported file of weights: loads it back as its users do, and compares its embeddings with the engine's. */
import { MAX_RELATIVE_DIFFERENCE } from '../../src/modules/exports/index.ts';
import type { ExportFormat } from '../../src/formats/export-formats.ts';
import { embedPixels, type Normalisation } from '../engine/embed.ts';
import type { Encoder, EncoderArchitecture } from '../engine/models/resnet.ts';
import { channelsFirst, CHECK_IMAGE_COUNT, checkPixels, normalisedPixels } from './check-images.ts';
import { maxRelativeDifferenceOfImages } from './difference.ts';
import { embedByOnnx } from './onnx.ts';
import { embedByTorchFile } from './pytorch.ts';
import { embedByTfjs } from './tfjs.ts';

/** The embeddings that every format must reproduce. */
export interface CheckReference {
  readonly architecture: EncoderArchitecture;
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

/**
 * Below this side the last stage has one pixel surrounded by padding, so that eight of nine weights of its 3x3 filters
 * would not be checked.
 */
const MIN_SIZE_PX = 64;
/** Larger images use no other weights, and take minutes on ONNX Runtime's single thread. */
const MAX_SIZE_PX = 512;

/**
 * @param contractSizePx the side that the weights are meant for; the check uses the nearest side at which every weight
 * is used.
 */
export function checkReference(encoder: Encoder, contractSizePx: number, normalisation: Normalisation): CheckReference {
  const imageSizePx = Math.min(Math.max(contractSizePx, MIN_SIZE_PX), MAX_SIZE_PX);
  const pixels = checkPixels(imageSizePx);
  const embeddings = embedPixels(encoder, pixels, CHECK_IMAGE_COUNT, imageSizePx, normalisation);
  return {
    architecture: encoder.architecture,
    normalisation,
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

async function embedBy(
  format: ExportFormat,
  file: Uint8Array,
  { architecture, normalisation, imageSizePx, pixels }: CheckReference,
): Promise<Float32Array> {
  switch (format) {
    case 'PYTORCH':
      return embedByTorchFile(file, architecture, pixels, CHECK_IMAGE_COUNT, imageSizePx, normalisation);
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
