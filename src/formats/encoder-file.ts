/** The stored form of an encoder's weights: the same weights with the same contract give the same file everywhere. */
import { writeSafetensors, type SafetensorsTensor } from './safetensors.ts';
import { resnetTensorSpecs, type ResnetArchitecture } from './torchvision-resnet.ts';

/**
 * Safetensors of the whole encoder. It contains neither name nor time of a run, so that the same config and seed give
 * the same file and the same sha256.
 * @param inputContract written into the file's metadata as JSON.
 */
export function encoderFileOf(
  architecture: ResnetArchitecture,
  tensors: readonly SafetensorsTensor[],
  inputContract: object,
): Uint8Array<ArrayBuffer> {
  return writeSafetensors(tensors, { format: 'pt', architecture, inputContract: JSON.stringify(inputContract) });
}

/** The encoder's own tensors among those of a training state. Throws RangeError naming one that is missing. */
export function encoderTensorsOf(
  architecture: ResnetArchitecture,
  tensors: readonly SafetensorsTensor[],
): SafetensorsTensor[] {
  const byName = new Map(tensors.map((tensor) => [tensor.name, tensor]));
  return resnetTensorSpecs(architecture).map(({ name }) => {
    const tensor = byName.get(name);
    if (tensor === undefined) throw new RangeError(`${name} is missing from the training state.`);
    return tensor;
  });
}
