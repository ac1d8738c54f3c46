/** The stored form of an encoder's weights: the same weights with the same contract give the same file everywhere. */
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

/** The encoder's own tensors among those of a training state. Throws RangeError naming one that is missing. */
export function encoderTensorsOf(
  architecture: Architecture,
  tensors: readonly SafetensorsTensor[],
): SafetensorsTensor[] {
  const byName = new Map(tensors.map((tensor) => [tensor.name, tensor]));
  return describeEncoder(architecture).tensors.map(({ name }) => {
    const tensor = byName.get(name);
    if (tensor === undefined) throw new RangeError(`${name} is missing from the training state.`);
    return tensor;
  });
}
