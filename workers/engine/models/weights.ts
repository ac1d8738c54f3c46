/** Encoder weights outside TensorFlow: drawing new ones, and checking ones that come from elsewhere. */
import type { NamedTensor } from '../named-tensor.ts';
import type { Random } from '../rng.ts';
import { encoderTensorSpecs } from './architecture.ts';
import type { EncoderArchitecture, EncoderTensorSpec } from './architecture.ts';

/**
 * Weights that do not fit the network they are meant for. Every fault is listed, so that a wrong prefix or a wrong
 * architecture is seen at once instead of loading nothing.
 */
export class WeightsMismatchError extends Error {
  readonly missing: readonly string[];
  readonly unexpected: readonly string[];
  /** `name: expected F32 [64, 3, 7, 7], got F32 [64, 3, 3, 3]` */
  readonly mismatched: readonly string[];

  constructor(
    target: string,
    faults: { missing: readonly string[]; unexpected: readonly string[]; mismatched: readonly string[] },
  ) {
    const some = (kind: string, names: readonly string[]): string[] =>
      names.length === 0
        ? []
        : [`${names.length} ${kind} (${names.slice(0, 3).join('; ')}${names.length > 3 ? '; ...' : ''})`];
    const list = [
      ...some('missing', faults.missing),
      ...some('unexpected', faults.unexpected),
      ...some('mismatched', faults.mismatched),
    ];
    super(`The weights do not fit ${target}: ${list.join(', ')}.`);
    this.name = 'WeightsMismatchError';
    this.missing = faults.missing;
    this.unexpected = faults.unexpected;
    this.mismatched = faults.mismatched;
  }
}

/** What a tensor must be to be loaded. */
export interface TensorExpectation {
  readonly name: string;
  readonly dtype: NamedTensor['dtype'];
  readonly shape: readonly number[];
  /** False where leaving it out is allowed. */
  readonly required: boolean;
}

/**
 * Compares tensors with what a network needs.
 *
 * @throws WeightsMismatchError that lists all that is missing, unexpected (duplicate names included) or of another
 * shape, dtype or length.
 */
export function checkTensors(
  target: string,
  tensors: readonly NamedTensor[],
  expectations: readonly TensorExpectation[],
): Map<string, NamedTensor> {
  const expected = new Map(expectations.map((expectation) => [expectation.name, expectation]));
  const found = new Map<string, NamedTensor>();
  const unexpected: string[] = [];
  const mismatched: string[] = [];
  for (const tensor of tensors) {
    const expectation = expected.get(tensor.name);
    if (expectation === undefined || found.has(tensor.name)) {
      unexpected.push(tensor.name);
      continue;
    }
    found.set(tensor.name, tensor);
    const elementCount = expectation.shape.reduce((product, side) => product * side, 1);
    const sameShape =
      tensor.shape.length === expectation.shape.length &&
      tensor.shape.every((side, axis) => side === expectation.shape[axis]);
    if (tensor.dtype !== expectation.dtype || !sameShape || tensor.data.length !== elementCount) {
      const found = `${tensor.dtype} [${tensor.shape.join(', ')}] with ${tensor.data.length} numbers`;
      mismatched.push(`${tensor.name}: expected ${expectation.dtype} [${expectation.shape.join(', ')}], got ${found}`);
    }
  }
  const missing = expectations.filter(({ name, required }) => required && !found.has(name)).map(({ name }) => name);
  if (missing.length + unexpected.length + mismatched.length > 0)
    throw new WeightsMismatchError(target, { missing, unexpected, mismatched });
  return found;
}

/** What an encoder's weights must hold. */
export function encoderExpectations(architecture: EncoderArchitecture): TensorExpectation[] {
  return encoderTensorSpecs(architecture).map(({ name, kind, shape }): TensorExpectation => {
    // Checkpoints older than PyTorch 0.4.1 have no batch counts; nothing is computed from them.
    return kind === 'BATCH_COUNT'
      ? { name, dtype: 'I64', shape, required: false }
      : { name, dtype: 'F32', shape, required: true };
  });
}

/** Those of an encoder's tensors that an optimiser changes. */
export function trainedExpectations(architecture: EncoderArchitecture): TensorExpectation[] {
  const trained: readonly EncoderTensorSpec['kind'][] = ['FILTER', 'NORM_SCALE', 'NORM_OFFSET'];
  return encoderTensorSpecs(architecture).flatMap(({ name, kind, shape }) =>
    trained.includes(kind) ? [{ name, dtype: 'F32', shape, required: true }] : [],
  );
}

/**
 * The tensors of an encoder by name, all there and of the right shapes. Throws WeightsMismatchError as `checkTensors`.
 */
export function checkEncoderWeights(
  architecture: EncoderArchitecture,
  tensors: readonly NamedTensor[],
): Map<string, NamedTensor> {
  return checkTensors(architecture, tensors, encoderExpectations(architecture));
}

/**
 * New weights as torchvision draws them: filters normal with variance 2 / (k * k * O) (He et al. 2015, fan-out), batch
 * norms at the identity.
 */
export function randomEncoderWeights(architecture: EncoderArchitecture, random: Random): NamedTensor[] {
  return encoderTensorSpecs(architecture).map((spec) => randomTensor(spec, random));
}

/**
 * Independent normal numbers by Box and Muller, both of each pair used: millions are drawn, and logarithms are what
 * that costs.
 */
function normals(length: number, deviation: number, stream: Random): Float32Array<ArrayBuffer> {
  const values = new Float32Array(length);
  for (let index = 0; index < length; index += 2) {
    const radius = deviation * Math.sqrt(-2 * Math.log(1 - stream.uniform()));
    const angle = 2 * Math.PI * stream.uniform();
    values[index] = radius * Math.cos(angle);
    // Past the end of an odd length this is dropped, as writes past a typed array's end are.
    values[index + 1] = radius * Math.sin(angle);
  }
  return values;
}

function randomTensor({ name, kind, shape }: EncoderTensorSpec, random: Random): NamedTensor {
  const length = shape.reduce((product, side) => product * side, 1);
  switch (kind) {
    case 'FILTER': {
      const [outputChannels = 1, , height = 1, width = 1] = shape;
      const deviation = Math.sqrt(2 / (outputChannels * height * width));
      // A stream of its own per tensor: the same tensor is drawn whatever comes before it.
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
