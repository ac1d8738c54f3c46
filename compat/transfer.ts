/** Weights through Paraffin, in both directions, without TensorFlow: what goes out as others' files, and what others' files become. */
import { open, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import type { EncoderExport } from '../src/formats/encoder-export.ts';
import { writeOnnx } from '../src/formats/onnx.ts';
import { accessFile } from '../src/formats/random-access.ts';
import type { ExportArchitecture } from '../src/formats/resnet-graph.ts';
import { readSafetensors, writeSafetensors } from '../src/formats/safetensors.ts';
import type { SafetensorsTensor } from '../src/formats/safetensors.ts';
import { writeTfjsZip } from '../src/formats/tfjs.ts';
import { readTorchCheckpoint } from '../src/formats/torch-checkpoint/index.ts';
import type { TorchTensor } from '../src/formats/torch-checkpoint/index.ts';
import { writeTorchCheckpoint } from '../src/formats/torch-writer.ts';
import { COMPAT_CONTRACT } from './images.ts';

/** Writes `encoder.pt`, `encoder.onnx` and `encoder-tfjs.zip` from `weights.safetensors` of the folder. */
export async function exportWeights(folder: string, architecture: ExportArchitecture): Promise<void> {
  const { tensors } = readSafetensors(await readFile(path.join(folder, 'weights.safetensors')));
  const source: EncoderExport = { architecture, tensors, inputContract: COMPAT_CONTRACT, metadata: { name: `compat ${architecture}` } };
  await writeFile(path.join(folder, 'encoder.pt'), writeTorchCheckpoint(source));
  await writeFile(path.join(folder, 'encoder.onnx'), writeOnnx(source));
  await writeFile(path.join(folder, 'encoder-tfjs.zip'), writeTfjsZip(source));
}

/** Checkpoint file in the folder, by the name under which its tensors are then kept as safetensors. */
const CHECKPOINTS = { plain: 'plain.pt', legacy: 'legacy.pt', lightning: 'lightning.ckpt', own: 'encoder.pt' } as const;

/** Reads PyTorch's checkpoints of the folder, and Paraffin's own, and writes each as `<name>.safetensors`. */
export async function importCheckpoints(folder: string): Promise<void> {
  for (const [name, fileName] of Object.entries(CHECKPOINTS)) {
    await using file = await open(path.join(folder, fileName));
    const { tensors } = await readTorchCheckpoint(accessFile(file, (await file.stat()).size));
    const encoderTensors: SafetensorsTensor[] = [];
    for (const tensor of tensors) {
      const encoderName = tensor.name.replace(/^model\.resnet\./, '');
      if (!encoderName.startsWith('fc.')) encoderTensors.push(await loaded(encoderName, tensor));
    }
    await writeFile(path.join(folder, `${name}.safetensors`), writeSafetensors(encoderTensors));
  }
}

async function loaded(name: string, tensor: TorchTensor): Promise<SafetensorsTensor> {
  const values = await tensor.load();
  if (values.dtype !== 'F32' && values.dtype !== 'I64') throw new TypeError(`${name} is ${values.dtype}; the checkpoint was saved as F32 and I64.`);
  return values.dtype === 'F32' ? { name, shape: tensor.shape, dtype: 'F32', data: values.data } : { name, shape: tensor.shape, dtype: 'I64', data: values.data };
}
