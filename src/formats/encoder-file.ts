/** The stored form of an encoder's weights: the same weights with the same contract give the same file everywhere. */
import { EXPORTED_ENCODER } from './encoders/exported.ts';
import { describeEncoder, type Architecture } from './encoders/index.ts';
import { contractInFile, type ExportInputContract } from './encoder-export.ts';
import { writeSafetensors, type SafetensorsTensor } from './safetensors.ts';

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
