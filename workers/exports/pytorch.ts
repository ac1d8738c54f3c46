/**
 * Embeds by a PyTorch file, read back without Python. It checks in the file what `torch.load(weights_only=True)` and
 * `load_state_dict(strict=True)` demand: only globals from PyTorch's safe list, and exactly the state dict's names in
 * its order. `npm run compat` runs the real functions.
 */
import { accessBytes } from '../../src/formats/random-access.ts';
import type { SafetensorsTensor } from '../../src/formats/safetensors.ts';
import { readTorchCheckpoint, type TorchTensor } from '../../src/formats/torch-checkpoint/index.ts';
import { describeEncoder, type Architecture, type Pooling } from '../../src/formats/encoders/index.ts';
import { embedPixels, type Normalisation } from '../engine/embed.ts';
import { openEncoder } from '../engine/encoders/index.ts';

/** The images to embed, and how. */
interface TorchFileUse {
  readonly architecture: Architecture;
  readonly pooling: Pooling;
  /** uint8 `[N, S, S, 3]` */
  readonly pixels: Uint8Array;
  readonly imageSizePx: number;
  readonly normalisation: Normalisation;
}

/**
 * @returns `[N, D]`
 * @throws Error for a file that PyTorch would not load strictly.
 */
export async function embedByTorchFile(
  file: Uint8Array,
  { architecture, pooling, pixels, imageSizePx, normalisation }: TorchFileUse,
  imageCount: number,
): Promise<Float32Array> {
  const { tensors, placeholders } = await readTorchCheckpoint(accessBytes(file));
  const [unsafe] = placeholders;
  if (unsafe !== undefined) throw new Error(`torch.load(weights_only=True) would refuse the global ${unsafe.name}.`);
  const expected = describeEncoder(architecture).tensors.map(({ name }) => name);
  const found = tensors.map(({ name }) => name);
  const strange = found.find((name, index) => name !== expected[index]);
  if (strange !== undefined || found.length !== expected.length)
    throw new Error(
      `load_state_dict(strict=True) would refuse the keys: ${strange ?? `${found.length} instead of ${expected.length}`}.`,
    );
  const encoder = openEncoder(architecture, await Promise.all(tensors.map(loaded)), pooling);
  try {
    return embedPixels(encoder, pixels, imageCount, imageSizePx, normalisation);
  } finally {
    encoder.dispose();
  }
}

async function loaded({ name, shape, load }: TorchTensor): Promise<SafetensorsTensor> {
  const values = await load();
  if (values.dtype === 'I64') return { name, shape, dtype: 'I64', data: values.data };
  if (values.dtype === 'F32') return { name, shape, dtype: 'F32', data: values.data };
  throw new Error(`${name} is ${values.dtype}, which no encoder has.`);
}
