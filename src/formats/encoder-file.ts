/**
 * The stored form of an encoder's weights, safetensors in the dtype in which they came: the same weights with the same
 * contract give the same file everywhere.
 */
import { EXPORTED_ENCODER } from './encoders/exported.ts';
import { describeEncoder, type Architecture } from './encoders/index.ts';
import { contractInFile, type ExportInputContract } from './encoder-export.ts';
import { readForeignSafetensors, writeSafetensors, type ForeignTensor, type SafetensorsTensor } from './safetensors.ts';
import { toFloat32 } from './torch-checkpoint/dtype.ts';

/** The metadata of the stored file: what a reader needs to use it. */
export function encoderFileMetadata(
  architecture: Architecture,
  inputContract: ExportInputContract,
): Record<string, string> {
  return {
    format: 'pt',
    ...describeEncoder(architecture).fileMetadata,
    inputContract: JSON.stringify(contractInFile(inputContract)),
  };
}

/**
 * Safetensors of the whole encoder. It contains neither name nor time of a run, so that the same config and seed give
 * the same file and the same sha256.
 * @param inputContract written into the file's metadata as JSON.
 */
export function encoderFileOf(
  architecture: Architecture,
  tensors: readonly SafetensorsTensor[],
  inputContract: ExportInputContract,
): Uint8Array<ArrayBuffer> {
  return writeSafetensors(tensors, encoderFileMetadata(architecture, inputContract));
}

/**
 * The encoder to register among the tensors of a training state: the exported one if the state has one, otherwise the
 * trained one. Throws RangeError naming a tensor that is missing.
 */
export function encoderTensorsOf(
  architecture: Architecture,
  tensors: readonly SafetensorsTensor[],
): SafetensorsTensor[] {
  const byName = new Map(tensors.map((tensor) => [tensor.name, tensor]));
  const isExported = tensors.some(({ name }) => name.startsWith(EXPORTED_ENCODER));
  return describeEncoder(architecture).tensors.map(({ name }) => {
    const tensor = byName.get(isExported ? `${EXPORTED_ENCODER}${name}` : name);
    if (tensor === undefined) throw new RangeError(`${name} is missing from the training state.`);
    return { ...tensor, name };
  });
}

/**
 * The weights of a stored encoder for computing: float32, to which half precision is widened without loss. The values
 * of tensors that are float32 already are views of the bytes.
 * @throws SafetensorsError with the first fault of the file.
 */
export function encoderWeights(bytes: Uint8Array): SafetensorsTensor[] {
  return readForeignSafetensors(bytes).tensors.map(widened);
}

function widened({ name, shape, ...values }: ForeignTensor): SafetensorsTensor {
  if (values.dtype === 'I64') return { name, shape, ...values };
  return { name, shape, dtype: 'F32', data: toFloat32(values) };
}
