/** The comparisons, and the differences that they find. */
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { maxRelativeDifferenceOfImages } from '../workers/exports/difference.ts';
import { IMAGE_COUNT, LARGE_SIZE_PX, SMALL_SIZE_PX } from './images.ts';

export interface Comparison {
  readonly label: string;
  /** Files `<name>-<size>.f32` in the encoder's folder. */
  readonly actual: string;
  readonly reference: string;
  readonly sizesPx: readonly number[];
}

const BOTH = [LARGE_SIZE_PX, SMALL_SIZE_PX] as const;

/** How far float32 itself is from the exact answer, for scale. */
export const FLOAT32_BASELINE: Comparison = {
  label: 'torchvision, float32 against float64',
  actual: 'torchvision',
  reference: 'exact',
  sizesPx: [SMALL_SIZE_PX],
};
export const IMPORTS: readonly Comparison[] = [
  { label: "Python's safetensors -> Paraffin", actual: 'engine-weights', reference: 'torchvision', sizesPx: BOTH },
  { label: 'PyTorch state dict -> Paraffin', actual: 'engine-plain', reference: 'torchvision', sizesPx: BOTH },
  { label: 'PyTorch before 1.6 -> Paraffin', actual: 'engine-legacy', reference: 'torchvision', sizesPx: BOTH },
  { label: 'Lightning checkpoint -> Paraffin', actual: 'engine-lightning', reference: 'torchvision', sizesPx: BOTH },
];
export const EXPORTS: readonly Comparison[] = [
  { label: "Paraffin -> Python's safetensors", actual: 'safetensors', reference: 'engine-weights', sizesPx: BOTH },
  { label: 'Paraffin -> PyTorch', actual: 'pytorch', reference: 'engine-weights', sizesPx: BOTH },
  { label: 'Paraffin -> PyTorch file -> Paraffin', actual: 'engine-own', reference: 'engine-weights', sizesPx: BOTH },
  { label: 'Paraffin -> ONNX Runtime', actual: 'onnx', reference: 'engine-weights', sizesPx: BOTH },
  { label: 'Paraffin -> TF.js (cpu)', actual: 'tfjs', reference: 'engine-weights', sizesPx: [SMALL_SIZE_PX] },
];

/** The vision transformers of vit_models.py, and the side of their images. */
export const VIT_SIZES_PX: Readonly<Record<string, number>> = {
  VIT_S16: LARGE_SIZE_PX,
  'VIT_S16 at 64 px': SMALL_SIZE_PX,
  'VIT_S16 in bfloat16': LARGE_SIZE_PX,
  VIT_B14_REG4: LARGE_SIZE_PX,
  VIT_W384_D4_P16_REG8_SWIGLU: LARGE_SIZE_PX,
};
export const VIT_NAMES = Object.keys(VIT_SIZES_PX);
const LARGE = [LARGE_SIZE_PX] as const;
export const VIT_COMPARISONS: readonly Comparison[] = [
  { label: 'timm, float32 against float64', actual: 'timm', reference: 'exact', sizesPx: LARGE },
  { label: 'PyTorch state dict -> Paraffin', actual: 'engine-pickle', reference: 'timm', sizesPx: LARGE },
  { label: "Python's safetensors -> Paraffin", actual: 'engine-safetensors', reference: 'timm', sizesPx: LARGE },
  {
    label: "Paraffin -> Python's safetensors -> timm",
    actual: 'safetensors',
    reference: 'engine-pickle',
    sizesPx: LARGE,
  },
  { label: 'Paraffin -> PyTorch -> timm', actual: 'pytorch', reference: 'engine-pickle', sizesPx: LARGE },
  { label: 'Paraffin -> ONNX Runtime', actual: 'onnx', reference: 'engine-pickle', sizesPx: LARGE },
  { label: 'Paraffin -> TF.js on TensorFlow', actual: 'tfjs-node', reference: 'engine-pickle', sizesPx: LARGE },
];

/**
 * The greatest `maxRelativeDifference` over the comparison's images. @throws Error if a side has no embeddings, or not
 * the expected ones.
 */
export async function compare({ actual, reference, sizesPx }: Comparison, folder: string): Promise<number> {
  const differences: number[] = [];
  for (const sizePx of sizesPx) {
    const [actualValues, referenceValues] = await Promise.all(
      [actual, reference].map((name) => floatsOf(path.join(folder, `${name}-${sizePx}.f32`))),
    );
    if (
      actualValues === undefined ||
      referenceValues === undefined ||
      actualValues.length !== referenceValues.length ||
      actualValues.length === 0
    ) {
      throw new Error(
        `${actual} gave ${actualValues?.length ?? 0} numbers where ${reference} gave ${referenceValues?.length ?? 0}.`,
      );
    }
    differences.push(
      maxRelativeDifferenceOfImages(actualValues, referenceValues, referenceValues.length / IMAGE_COUNT),
    );
  }
  return Math.max(...differences);
}

async function floatsOf(file: string): Promise<Float32Array> {
  const bytes = await readFile(file).catch(() => {
    throw new Error(`${path.basename(file)} was not written.`);
  });
  return new Float32Array(Uint8Array.from(bytes).buffer);
}
