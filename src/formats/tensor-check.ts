/** Compares named tensors with what a network needs; every fault is listed, so that a wrong prefix is seen at once. */

/** A tensor of a file or of a network. */
export interface CheckableTensor {
  readonly name: string;
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly data: { readonly length: number };
  /** The length of `data`, if it is read or drawn whenever it is asked for. */
  readonly elementCount?: number | undefined;
}

/** The requirements on a tensor to be loaded. */
export interface TensorExpectation {
  readonly name: string;
  readonly dtype: 'F32' | 'I64' | 'U8';
  readonly shape: readonly number[];
  /** False if the tensor may be absent. */
  readonly required: boolean;
}

/** The weights do not match the network. */
export class WeightsMismatchError extends Error {
  readonly missing: readonly string[];
  /** Duplicate names included. */
  readonly unexpected: readonly string[];
  /** `conv1.weight: expected F32 [64, 3, 7, 7], got F32 [64, 3, 3, 3] with 1728 numbers` */
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

/**
 * The tensors by name, including all required ones.
 *
 * @param target the network, as the error names it.
 * @throws WeightsMismatchError that lists every tensor that is missing, unexpected (duplicate names included) or of
 * another shape, dtype or length.
 */
export function checkTensors<Tensor extends CheckableTensor>(
  target: string,
  tensors: readonly Tensor[],
  expectations: readonly TensorExpectation[],
): Map<string, Tensor> {
  const expected = new Map(expectations.map((expectation) => [expectation.name, expectation]));
  const found = new Map<string, Tensor>();
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
    const foundCount = tensor.elementCount ?? tensor.data.length;
    const sameShape =
      tensor.shape.length === expectation.shape.length &&
      tensor.shape.every((side, axis) => side === expectation.shape[axis]);
    if (tensor.dtype === expectation.dtype && sameShape && foundCount === elementCount) continue;
    mismatched.push(
      `${tensor.name}: expected ${expectation.dtype} [${expectation.shape.join(', ')}], got ${tensor.dtype} [${tensor.shape.join(', ')}] with ${foundCount} numbers`,
    );
  }
  const missing = expectations.filter(({ name, required }) => required && !found.has(name)).map(({ name }) => name);
  if (missing.length + unexpected.length + mismatched.length > 0)
    throw new WeightsMismatchError(target, { missing, unexpected, mismatched });
  return found;
}
