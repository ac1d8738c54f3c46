/**
 * DINO's projection head (Caron et al. 2021, arXiv:2104.14294, section 3.1): three linear layers with GELU between
 * them, a projection on the unit sphere, and a linear layer whose rows, the prototypes, have unit length (weight
 * normalisation with its gains fixed at 1). With a hand-written backward pass.
 */
import { checkTensors, type TensorExpectation } from '../../../../src/formats/tensor-check.ts';
import { multiplyMatrices } from '../../kernels/elementwise.ts';
import { gelu, geluGradient } from '../../kernels/gelu.ts';
import { linearGradient, openLinear, runLinear, type LinearLayer } from '../../models/linear.ts';
import { createParameter, disposeParameter, fromDevice, setGradient, type Parameter } from '../../models/parameter.ts';
import type { NamedTensor } from '../../named-tensor.ts';
import { normals } from '../../normals.ts';
import type { Random } from '../../rng.ts';
import { asRank2, scoped, tf } from '../../tensorflow.ts';
import type { Tensor, Tensor2D } from '../../tensorflow.ts';

export interface DinoHeadShape {
  /** Before the names of its tensors: `head`. */
  readonly prefix: string;
  /** D */
  readonly embeddingDim: number;
  readonly hiddenDim: number;
  readonly bottleneckDim: number;
  /** K */
  readonly prototypeCount: number;
}

const LAYERS = ['mlp.0', 'mlp.2', 'mlp.4'] as const;
const PROTOTYPES = 'last_layer.weight_v';
/** Of linear layers, as the paper's code draws them. */
const DEVIATION = 0.02;
/** As torch.nn.functional.normalize's. */
const LENGTH_MIN = 1e-12;

/** All tensors, under the names of the paper's checkpoints; linear weights are [out, in]. */
export function dinoHeadExpectations({
  prefix,
  embeddingDim,
  hiddenDim,
  ...shape
}: DinoHeadShape): TensorExpectation[] {
  const dims = [embeddingDim, hiddenDim, hiddenDim, shape.bottleneckDim];
  const tensor = (name: string, sides: readonly number[]): TensorExpectation => ({
    name: `${prefix}.${name}`,
    dtype: 'F32',
    shape: sides,
    required: true,
  });
  return [
    ...LAYERS.flatMap((layer, index) => {
      const [inputs = 0, outputs = 0] = dims.slice(index);
      return [tensor(`${layer}.weight`, [outputs, inputs]), tensor(`${layer}.bias`, [outputs])];
    }),
    tensor(PROTOTYPES, [shape.prototypeCount, shape.bottleneckDim]),
  ];
}

/**
 * New tensors as the paper's code draws them: linear weights normal, biases zero, prototypes uniform as PyTorch's
 * Linear.
 */
export function randomDinoHead(shape: DinoHeadShape, random: Random): NamedTensor[] {
  const bound = 1 / Math.sqrt(shape.bottleneckDim);
  return dinoHeadExpectations(shape).map(({ name, shape: sides }): NamedTensor => {
    const length = sides.reduce((product, side) => product * side, 1);
    const stream = random.fork(name);
    if (name.endsWith('.bias')) return { name, dtype: 'F32', shape: sides, data: new Float32Array(length) };
    const data = name.endsWith(PROTOTYPES)
      ? Float32Array.from({ length }, () => stream.between(-bound, bound))
      : normals(length, DEVIATION, stream);
    return { name, dtype: 'F32', shape: sides, data };
  });
}

/** Rows of unit length, and the lengths that they had [R, 1]. */
interface Unit {
  readonly rows: Tensor2D;
  readonly lengths: Tensor;
}

interface Trace {
  /** The input of each linear layer; the first is owned by the caller. */
  readonly inputs: readonly Tensor2D[];
  /** The outputs of the first two linear layers, before their GELU. */
  readonly beforeGelu: readonly Tensor2D[];
  readonly bottleneck: Unit;
  readonly prototypes: Unit;
}

export class DinoHead {
  /** In the order of `dinoHeadExpectations`. */
  readonly parameters: readonly Parameter[];
  readonly #layers: readonly LinearLayer[];
  readonly #prototypes: Parameter;
  #trace: Trace | undefined;

  /** @throws WeightsMismatchError when the tensors are not those of `dinoHeadExpectations`. */
  constructor(shape: DinoHeadShape, tensors: readonly NamedTensor[]) {
    const found = checkTensors(`DINO's ${shape.prefix}`, tensors, dinoHeadExpectations(shape));
    const prototypes = found.get(`${shape.prefix}.${PROTOTYPES}`);
    if (prototypes === undefined) throw new Error(`${PROTOTYPES} is missing from tensors that were checked.`);
    this.#layers = LAYERS.map((layer) => openLinear(`${shape.prefix}.${layer}`, found));
    this.#prototypes = createParameter(prototypes, 'WEIGHT', 'AS_IS');
    this.parameters = [...this.#layers.flatMap(({ weight, bias }) => [weight, bias]), this.#prototypes];
  }

  /** [R, D] to [R, K], keeping nothing; the caller owns the outputs. */
  infer(embeddings: Tensor2D): Tensor2D {
    return scoped(() => this.#run(embeddings).outputs);
  }

  /** [R, D] to [R, K]; the caller owns the outputs. The embeddings must live until `backward`. */
  forward(embeddings: Tensor2D): Tensor2D {
    this.discard();
    const { outputs, hidden, beforeGelu, bottleneck, prototypes } = scoped(() => this.#run(embeddings));
    this.#trace = { inputs: [embeddings, ...hidden], beforeGelu, bottleneck, prototypes };
    return outputs;
  }

  /** Call it in a scope. */
  #run(embeddings: Tensor2D) {
    const beforeGelu: Tensor2D[] = [];
    const hidden: Tensor2D[] = [];
    let current = embeddings;
    for (const [index, layer] of this.#layers.entries()) {
      const output = runLinear(layer, current);
      const isLast = index === this.#layers.length - 1;
      current = isLast ? output : gelu(output);
      if (isLast) break;
      beforeGelu.push(output);
      hidden.push(current);
    }
    const bottleneck = unitRows(current);
    const prototypes = unitRows(asRank2(this.#prototypes.value));
    const outputs = multiplyMatrices(bottleneck.rows, prototypes.rows, { transposeRight: true });
    return { outputs, hidden, beforeGelu, bottleneck: { ...bottleneck }, prototypes: { ...prototypes } };
  }

  /** Sets every gradient from that of the outputs [R, K]; returns that of the embeddings [R, D]. */
  backward(outputGradient: Tensor2D): Tensor2D {
    if (this.#trace === undefined) throw new Error('DINO head: backward before forward.');
    const { inputs, beforeGelu, bottleneck, prototypes } = this.#trace;
    setGradient(
      this.#prototypes,
      scoped(() => {
        const ofUnits = multiplyMatrices(outputGradient, bottleneck.rows, { transposeLeft: true });
        return unitRowsGradient(ofUnits, prototypes);
      }),
    );
    let gradient = scoped(() => unitRowsGradient(multiplyMatrices(outputGradient, prototypes.rows), bottleneck));
    for (const [index, layer] of [...this.#layers.entries()].reverse()) {
      const input = inputs[index];
      if (input === undefined) throw new Error('DINO head: a layer without a forward pass.');
      const inputGradient = linearGradient(layer, input, gradient);
      gradient.dispose();
      const before = beforeGelu[index - 1];
      gradient = before === undefined ? inputGradient : geluGradient(before, inputGradient);
      if (gradient !== inputGradient) inputGradient.dispose();
    }
    this.discard();
    return gradient;
  }

  /** Frees all tensors of a forward pass. */
  discard(): void {
    if (this.#trace === undefined) return;
    const { inputs, beforeGelu, bottleneck, prototypes } = this.#trace;
    tf.dispose([...inputs.slice(1), ...beforeGelu]);
    tf.dispose([bottleneck.rows, bottleneck.lengths, prototypes.rows, prototypes.lengths]);
    this.#trace = undefined;
  }

  weights(): NamedTensor[] {
    return this.parameters.map(({ name, value, layout }) => fromDevice(name, value, layout));
  }

  dispose(): void {
    this.discard();
    this.parameters.forEach(disposeParameter);
  }
}

/** Call it in a scope. */
function unitRows(rows: Tensor2D): Unit {
  const lengths = tf.maximum(tf.norm(rows, 2, 1, true), LENGTH_MIN);
  return { rows: asRank2(tf.div(rows, lengths)), lengths };
}

/** The gradient of the rows before they were scaled to unit length. Call it in a scope. */
function unitRowsGradient(gradient: Tensor2D, { rows, lengths }: Unit): Tensor2D {
  const along = tf.sum(tf.mul(gradient, rows), 1, true);
  return asRank2(tf.div(tf.sub(gradient, tf.mul(rows, along)), lengths));
}
