/**
 * Converts weights with Paraffin in both directions, without TensorFlow: exports to other formats, and imports from
 * other formats.
 */
import { createHash } from 'node:crypto';
import { open, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import type { EncoderExport } from '../src/formats/encoder-export.ts';
import { writeExport } from '../src/formats/export-formats.ts';
import { accessFile } from '../src/formats/random-access.ts';
import { readSafetensors, writeSafetensors } from '../src/formats/safetensors.ts';
import type { SafetensorsTensor } from '../src/formats/safetensors.ts';
import { readTorchCheckpoint, toFloat32 } from '../src/formats/torch-checkpoint/index.ts';
import type { TorchTensor } from '../src/formats/torch-checkpoint/index.ts';
import { resnetArchitecture, type ResnetName } from '../src/formats/encoders/resnet/specification.ts';
import { mapToEncoder } from '../src/formats/encoders/mapping.ts';
import { COMPAT_CONTRACT } from './images.ts';
import { EXPORT_FORMATS, exportMetadataOf } from '../src/protocol/export.ts';

const EXPORT_FILES = { PYTORCH: 'encoder.pt', ONNX: 'encoder.onnx', TFJS: 'encoder-tfjs.zip' } as const;

/** Writes the exports that the server makes of a checkpoint, from `weights.safetensors` of the folder. */
export async function exportWeights(folder: string, architecture: ResnetName): Promise<void> {
  const weights = await readFile(path.join(folder, 'weights.safetensors'));
  const metadata = exportMetadataOf(createHash('sha256').update(weights).digest('hex'));
  const source: EncoderExport = {
    architecture: resnetArchitecture(architecture),
    tensors: readSafetensors(weights).tensors,
    inputContract: COMPAT_CONTRACT,
    metadata,
  };
  for (const format of EXPORT_FORMATS)
    await writeFile(path.join(folder, EXPORT_FILES[format]), writeExport(format, source));
}

/** Checkpoint files in the folder, by the name under which their tensors are stored as safetensors. */
const CHECKPOINTS = { plain: 'plain.pt', legacy: 'legacy.pt', lightning: 'lightning.ckpt', own: 'encoder.pt' } as const;

/**
 * Reads PyTorch's checkpoints of the folder, and Paraffin's own, as an import does, and writes each as
 * `<name>.safetensors`. @throws Error if one is recognised as another format.
 */
export async function importCheckpoints(folder: string, architecture: ResnetName): Promise<void> {
  for (const [name, fileName] of Object.entries(CHECKPOINTS)) {
    await using file = await open(path.join(folder, fileName));
    const { tensors } = await readTorchCheckpoint(accessFile(file, (await file.stat()).size));
    const mapped = mapToEncoder(tensors);
    if (mapped.outcome === 'REFUSED') throw new Error(`${fileName} is refused: ${mapped.reason}.`);
    if (mapped.description.name !== architecture)
      throw new Error(`${fileName} is recognised as ${mapped.description.name}.`);
    if ((mapped.projectionHead !== undefined) !== (name === 'lightning'))
      throw new Error(`${fileName}: the projection head was not separated from the encoder.`);
    const encoderTensors: SafetensorsTensor[] = [];
    for (const [encoderName, tensor] of mapped.tensors) encoderTensors.push(await loaded(encoderName, tensor));
    await writeFile(
      path.join(folder, `${name}.safetensors`),
      writeSafetensors(encoderTensors, { format: 'pt', architecture, inputContract: JSON.stringify(COMPAT_CONTRACT) }),
    );
  }
}

async function loaded(name: string, tensor: TorchTensor): Promise<SafetensorsTensor> {
  const values = await tensor.load();
  return values.dtype === 'I64'
    ? { name, shape: tensor.shape, dtype: 'I64', data: values.data }
    : { name, shape: tensor.shape, dtype: 'F32', data: toFloat32(values) };
}
