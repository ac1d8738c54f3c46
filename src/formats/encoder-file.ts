/** An encoder's weights as they are stored: the same weights under the same contract make the same file everywhere. */
import { writeSafetensors, type SafetensorsTensor } from './safetensors.ts';
import { resnetTensorSpecs, type ResnetArchitecture } from './torchvision-resnet.ts';

/**
 * Safetensors of the whole encoder. Nothing of a run's own name or time is in it: the same config and seed give the
 * same file, and so the same sha256.
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
