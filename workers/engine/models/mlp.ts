/**
 * A projector of several layers: Linear without bias, batch norm, ReLU, and so on, ending with a Linear. Views are
 * normalised apart, as where each view passes the projector in a call of its own. With a hand-written backward pass.
 *
 * Batch norms have no running statistics, because no projector is used after its training.
 */
import { checkTensors, type TensorExpectation } from '../../../src/formats/tensor-check.ts';
import { multiplyMatrices, relu, reluGradient } from '../kernels/elementwise.ts';
import type { NamedTensor } from '../named-tensor.ts';
import type { Random } from '../rng.ts';
import { asRank2, scoped, tf } from '../tensorflow.ts';
import type { Tensor, Tensor2D } from '../tensorflow.ts';
import { createParameter, disposeParameter, fromDevice, setGradient } from './parameter.ts';
import type { Parameter } from './parameter.ts';

/** As torch.nn.BatchNorm1d's. */
const EPSILON = 1e-5;
const VIEWS = 2;

/** Names and lengths of a projector's tensors. */
export interface MlpShape {
  /** Before the numbers that PyTorch's `nn.Sequential` gives to the modules: `projector`. */
  readonly prefix: string;
  /** Lengths of the input, of each hidden layer, and of the output. */
  readonly dims: readonly number[];
}

export interface Normalised {
  /** [views, N, H], of mean 0 and variance 1 over N. */
  readonly units: Tensor;
  /** [views, 1, H] */
  readonly inverseStd: Tensor;
}

interface Trace {
  readonly input: Tensor2D;
  readonly normalised: Normalised;
  /** [views * N, H], after the ReLU. */
  readonly output: Tensor2D;
}

interface HiddenLayer {
  readonly weight: Parameter;
  readonly scale: Parameter;
  readonly offset: Parameter;
}

/** All tensors, in PyTorch's order; linear weights are [out, in]. */
export function mlpExpectations({ prefix, dims }: MlpShape): TensorExpectation[] {
  const last = dims.length - 2;
  return dims.slice(1).flatMap((length, layer) => {
    const name = `${prefix}.${3 * layer}`;
    const weight = expected(`${name}.weight`, [length, dims[layer] ?? 0]);
    if (layer === last) return [weight];
    const norm = `${prefix}.${3 * layer + 1}`;
    return [weight, expected(`${norm}.weight`, [length]), expected(`${norm}.bias`, [length])];
  });
}

function expected(name: string, shape: readonly number[]): TensorExpectation {
  return { name, dtype: 'F32', shape, required: true };
}

/** New tensors as PyTorch initialises them: linear weights uniform in +-1 / sqrt(inputs), batch norms the identity. */
export function randomMlp(shape: MlpShape, random: Random): NamedTensor[] {
  return mlpExpectations(shape).map(({ name, shape: sides }): NamedTensor => {
    const [length = 0, inputs] = sides;
    if (inputs === undefined) {
      const data = new Float32Array(length).fill(name.endsWith('.weight') ? 1 : 0);
      return { name, dtype: 'F32', shape: sides, data };
    }
    const stream = random.fork(name);
    const bound = 1 / Math.sqrt(inputs);
    const data = Float32Array.from({ length: length * inputs }, () => stream.between(-bound, bound));
    return { name, dtype: 'F32', shape: sides, data };
  });
}

export class Mlp {
  /** In the order of `mlpExpectations`. */
  readonly parameters: readonly Parameter[];
  readonly #hidden: readonly HiddenLayer[];
  readonly #last: Parameter;
  #traces: readonly Trace[] = [];

  /** @throws WeightsMismatchError when the tensors are not those of `mlpExpectations`. */
  constructor(shape: MlpShape, tensors: readonly NamedTensor[]) {
    const expectations = mlpExpectations(shape);
    const found = checkTensors(`the ${shape.prefix}`, tensors, expectations);
    const parameters = expectations.map(({ name, shape: { length } }) => {
      const tensor = found.get(name);
      if (tensor === undefined) throw new Error(`${name} is missing from tensors that were checked.`);
      return createParameter(tensor, length > 1 ? 'WEIGHT' : 'BIAS_OR_NORM', 'AS_IS');
    });
    const at = (index: number): Parameter => {
      const parameter = parameters[index];
      if (parameter === undefined) throw new RangeError(`${shape.prefix} needs an input and an output.`);
      return parameter;
    };
    this.parameters = parameters;
    this.#hidden = shape.dims.slice(2).map((_, layer) => ({
      weight: at(3 * layer),
      scale: at(3 * layer + 1),
      offset: at(3 * layer + 2),
    }));
    this.#last = at(parameters.length - 1);
  }

  /**
   * [2N, D] to [2N, P], each view normalised apart; the caller owns the projections. The embeddings must live until
   * `backward`.
   */
  forward(embeddings: Tensor2D): Tensor2D {
    this.discard();
    let input = embeddings;
    for (const { weight, scale, offset } of this.#hidden) {
      const { units, inverseStd, output } = scoped(() => {
        const values = multiplyMatrices(input, weight.value, { transposeRight: true });
        const normalised = normalise(viewsOf(values));
        const scaled = tf.add(tf.mul(normalised.units, scale.value), offset.value);
        return { ...normalised, output: relu(tf.reshape(scaled, values.shape)) };
      });
      const trace = { input, normalised: { units, inverseStd }, output: asRank2(output) };
      this.#traces = [...this.#traces, trace];
      input = trace.output;
    }
    return multiplyMatrices(input, this.#last.value, { transposeRight: true });
  }

  /** Sets every gradient from that of the projections [2N, P]; returns that of the embeddings [2N, D]. */
  backward(projectionGradient: Tensor2D): Tensor2D {
    const inputOfLast = this.#traces.at(-1)?.output;
    if (inputOfLast === undefined) throw new Error('Projector: backward before forward.');
    setGradient(this.#last, multiplyMatrices(projectionGradient, inputOfLast, { transposeLeft: true }));
    let gradient = multiplyMatrices(projectionGradient, this.#last.value);
    for (const [layer, { weight, scale, offset }] of [...this.#hidden.entries()].reverse()) {
      const trace = this.#traces[layer];
      if (trace === undefined) throw new Error('Projector: a layer without a forward pass.');
      const gradients = scoped(() => {
        const beforeRelu = viewsOf(asRank2(reluGradient(gradient, trace.output)));
        const { units } = trace.normalised;
        const values = normaliseGradient(tf.mul(beforeRelu, scale.value), trace.normalised);
        const flat = tf.reshape(values, gradient.shape);
        return {
          scale: tf.sum(tf.mul(beforeRelu, units), [0, 1]),
          offset: tf.sum(beforeRelu, [0, 1]),
          weight: multiplyMatrices(flat, trace.input, { transposeLeft: true }),
          input: multiplyMatrices(flat, weight.value),
        };
      });
      setGradient(scale, gradients.scale);
      setGradient(offset, gradients.offset);
      setGradient(weight, gradients.weight);
      gradient.dispose();
      gradient = asRank2(gradients.input);
    }
    this.discard();
    return gradient;
  }

  /** Frees all tensors of a forward pass. */
  discard(): void {
    for (const { normalised, output } of this.#traces) tf.dispose([normalised.units, normalised.inverseStd, output]);
    this.#traces = [];
  }

  weights(): NamedTensor[] {
    return this.parameters.map(({ name, value, layout }) => fromDevice(name, value, layout));
  }

  dispose(): void {
    this.discard();
    this.parameters.forEach(disposeParameter);
  }
}

/** [2N, H] as [2, N, H]. */
export function viewsOf(rows: Tensor2D): Tensor {
  const [count, width] = rows.shape;
  return tf.reshape(rows, [VIEWS, count / VIEWS, width]);
}

/** A batch norm without scale and offset, each view of [views, N, H] by its own statistics over N. */
export function normalise(values: Tensor): Normalised {
  return scoped(() => {
    const centred = tf.sub(values, tf.mean(values, 1, true));
    const inverseStd = tf.rsqrt(tf.add(tf.mean(tf.square(centred), 1, true), EPSILON));
    return { units: tf.mul(centred, inverseStd), inverseStd };
  });
}

/** The gradient of `normalise`'s input, from that of its units. */
export function normaliseGradient(unitGradient: Tensor, { units, inverseStd }: Normalised): Tensor {
  return scoped(() => {
    const along = tf.mul(units, tf.mean(tf.mul(unitGradient, units), 1, true));
    const centred = tf.sub(unitGradient, tf.mean(unitGradient, 1, true));
    return tf.mul(tf.sub(centred, along), inverseStd);
  });
}
