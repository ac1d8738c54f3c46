/** Encoder weights outside TensorFlow: initialising new ones, and checking ones from elsewhere. */
import { checkTensors, type TensorExpectation } from '../../../../src/formats/tensor-check.ts';
import type { NamedTensor } from '../../named-tensor.ts';
import { normals } from '../../normals.ts';
import type { Random } from '../../rng.ts';
import { encoderTensorSpecs } from './architecture.ts';
import type { EncoderArchitecture, EncoderTensorSpec } from './architecture.ts';

/** The tensors that an encoder's weights must contain. */
export function encoderExpectations(architecture: EncoderArchitecture): TensorExpectation[] {
  return encoderTensorSpecs(architecture).map(({ name, kind, shape }): TensorExpectation => {
    // Checkpoints older than PyTorch 0.4.1 have no batch counts, and no computation uses them.
    return kind === 'BATCH_COUNT'
      ? { name, dtype: 'I64', shape, required: false }
      : { name, dtype: 'F32', shape, required: true };
  });
}

/** The encoder's tensors that an optimiser changes. */
export function trainedExpectations(architecture: EncoderArchitecture): TensorExpectation[] {
  const trained: readonly EncoderTensorSpec['kind'][] = ['FILTER', 'NORM_SCALE', 'NORM_OFFSET'];
  return encoderTensorSpecs(architecture).flatMap(({ name, kind, shape }) =>
    trained.includes(kind) ? [{ name, dtype: 'F32', shape, required: true }] : [],
  );
}

/**
 * The tensors of an encoder by name.
 *
 * @throws WeightsMismatchError when they are not exactly those of the architecture.
 */
export function checkEncoderWeights(
  architecture: EncoderArchitecture,
  tensors: readonly NamedTensor[],
): Map<string, NamedTensor> {
  return checkTensors(architecture, tensors, encoderExpectations(architecture));
}

/**
 * New weights, initialised as torchvision initialises them: filters normal with variance 2 / (k * k * O) (He et al.
 * 2015, fan-out), batch norms at the identity.
 */
export function randomEncoderWeights(architecture: EncoderArchitecture, random: Random): NamedTensor[] {
  return encoderTensorSpecs(architecture).map((spec) => randomTensor(spec, random));
}

function randomTensor({ name, kind, shape }: EncoderTensorSpec, random: Random): NamedTensor {
  const length = shape.reduce((product, side) => product * side, 1);
  switch (kind) {
    case 'FILTER': {
      const [outputChannels = 1, , height = 1, width = 1] = shape;
      const deviation = Math.sqrt(2 / (outputChannels * height * width));
      // Each tensor has its own random stream, so that its values do not depend on the tensors before it.
      return { name, dtype: 'F32', shape, data: normals(length, deviation, random.fork(name)) };
    }
    case 'NORM_SCALE':
    case 'RUNNING_VARIANCE':
      return { name, dtype: 'F32', shape, data: new Float32Array(length).fill(1) };
    case 'NORM_OFFSET':
    case 'RUNNING_MEAN':
      return { name, dtype: 'F32', shape, data: new Float32Array(length) };
    case 'BATCH_COUNT':
      return { name, dtype: 'I64', shape, data: new BigInt64Array(1) };
  }
}
