/** A vision transformer from normalised images to embeddings, with a hand-written backward pass. */
import type { Pooling } from '../../../../src/formats/encoders/architecture.ts';
import {
  prefixCountOf,
  vitName,
  vitTensorSpecs,
  type VitSpecification,
} from '../../../../src/formats/encoders/vit/specification.ts';
import { checkTensors } from '../../../../src/formats/tensor-check.ts';
import {
  createFixedWeight,
  createParameter,
  disposeParameter,
  fromDevice,
  type Parameter,
} from '../../models/parameter.ts';
import type { NamedTensor } from '../../named-tensor.ts';
import {
  asRank2,
  asRank3,
  scoped,
  tf,
  type FloatDtype,
  type Tensor,
  type Tensor2D,
  type Tensor4D,
} from '../../tensorflow.ts';
import type { RowNoise, TrainableEncoder } from '../encoder.ts';
import { TokenEmbedding } from './embedding.ts';
import { Activation, Attention, LayerNorm, LayerScale, Linear, type Layer, type TokenShape } from './layers.ts';
import { ResidualBranch } from './residual-branch.ts';

/** What a training may choose. */
export interface VitTraining {
  /** The probability with which an image skips a branch of the last block; it rises from 0 at the first block. */
  readonly dropPathRate: number;
  /** Factor of each layer's learning rate relative to the layer after it. */
  readonly layerDecay: number;
  /** The dtype of the factors of linear layers; everything else is float32. */
  readonly computeDtype: FloatDtype;
}

const NOT_IN_TRAINING: VitTraining = { dropPathRate: 0, layerDecay: 1, computeDtype: 'float32' };

export class VisionTransformer implements TrainableEncoder {
  readonly embeddingDim: number;
  readonly parameters: readonly Parameter[];
  readonly #specification: VitSpecification;
  readonly #pooling: Pooling;
  readonly #dropPathRate: number;
  readonly #embedding: TokenEmbedding;
  readonly #preNorm: Layer | undefined;
  /** Two for each block. */
  readonly #branches: readonly ResidualBranch[];
  readonly #finalNorm: Layer;
  #shape: TokenShape | undefined;

  /**
   * @param tensors timm's state dict.
   * @param training absent for an encoder that only embeds.
   * @throws WeightsMismatchError that lists every missing, unexpected and mismatched tensor.
   */
  constructor(
    specification: VitSpecification,
    tensors: readonly NamedTensor[],
    pooling: Pooling,
    training?: VitTraining,
  ) {
    const { dropPathRate, layerDecay, computeDtype } = training ?? NOT_IN_TRAINING;
    const specs = vitTensorSpecs(specification);
    const checked = checkTensors(
      vitName(specification),
      tensors,
      specs.map(({ name, shape, required }) => ({ name, dtype: 'F32', shape, required })),
    );
    this.#specification = specification;
    this.#pooling = pooling;
    this.#dropPathRate = dropPathRate;
    this.embeddingDim = pooling === 'CLS_AND_MEAN' ? 2 * specification.width : specification.width;
    const byName = new Map<string, Parameter>();
    for (const { name, shape } of specs) {
      const tensor = checked.get(name);
      if (tensor === undefined) throw new Error(`${name} is missing from weights that were checked.`);
      const isMatrix = shape.length === 2 && name.endsWith('.weight');
      byName.set(
        name,
        training === undefined && isMatrix
          ? createFixedWeight(tensor)
          : createParameter(
              tensor,
              isDecayed(name, shape) ? 'WEIGHT' : 'BIAS_OR_NORM',
              shape.length === 4 ? 'FILTER' : 'AS_IS',
              layerDecay ** (specification.depth + 1 - layerOf(name, specification)),
            ),
      );
    }
    this.parameters = [...byName.values()];
    const optional = (name: string): Parameter | undefined => byName.get(name);
    const parameter = (name: string): Parameter => {
      const found = byName.get(name);
      if (found === undefined) throw new Error(`${name} is missing from weights that were checked.`);
      return found;
    };
    const norm = (name: string): LayerNorm =>
      new LayerNorm(parameter(`${name}.weight`), parameter(`${name}.bias`), specification.normEpsilon);
    this.#embedding = new TokenEmbedding(specification, {
      filter: parameter('patch_embed.proj.weight'),
      bias: optional('patch_embed.proj.bias'),
      classToken: optional('cls_token'),
      registers: optional('reg_token'),
      positions: parameter('pos_embed'),
    });
    this.#preNorm = specification.hasPreNorm ? norm('norm_pre') : undefined;
    const linear = (name: string): Linear =>
      new Linear(parameter(`${name}.weight`), optional(`${name}.bias`), computeDtype);
    /** x + scale(f(norm(x))), or x + scale(norm(f(x))). */
    const branch = (block: string, part: 1 | 2, layers: readonly Layer[]): ResidualBranch => {
      const own = norm(`${block}.norm${part}`);
      const factor = optional(`${block}.ls${part}.gamma`);
      const chain = specification.blockNorm === 'PRE' ? [own, ...layers] : [...layers, own];
      return new ResidualBranch(factor === undefined ? chain : [...chain, new LayerScale(factor)]);
    };
    this.#branches = Array.from({ length: specification.depth }, (_, index) => `blocks.${index}`).flatMap((block) => [
      branch(block, 1, [
        linear(`${block}.attn.qkv`),
        new Attention(specification.headCount),
        linear(`${block}.attn.proj`),
      ]),
      branch(block, 2, [linear(`${block}.mlp.fc1`), new Activation(specification.mlp), linear(`${block}.mlp.fc2`)]),
    ]);
    this.#finalNorm = norm(specification.finalNorm === 'BEFORE_POOLING' ? 'norm' : 'fc_norm');
  }

  embed(images: Tensor4D): Tensor2D {
    return this.#pass(images, 'infer', undefined);
  }

  embedInTraining(images: Tensor4D, noise: RowNoise): Tensor2D {
    return this.#pass(images, 'infer', noise);
  }

  embedAlongside(images: Tensor4D, noise: RowNoise): Tensor2D {
    return this.embedInTraining(images, noise);
  }

  forward(images: Tensor4D, noise: RowNoise): Tensor2D {
    this.discard();
    this.#shape = this.#embedding.shapeOf(images);
    return this.#pass(images, 'forward', noise);
  }

  #pass(images: Tensor4D, mode: 'infer' | 'forward', noise: RowNoise | undefined): Tensor2D {
    const shape = this.#embedding.shapeOf(images);
    const factors = noise === undefined ? [] : this.#dropPathFactors(noise, shape.imageCount);
    let current = this.#embedding[mode](images);
    const next = (step: (tokens: Tensor2D) => Tensor2D): void => {
      const previous = current;
      current = step(previous);
      previous.dispose();
    };
    const preNorm = this.#preNorm;
    if (preNorm !== undefined) next((tokens) => preNorm[mode](tokens, shape));
    this.#branches.forEach((branch, index) => next((tokens) => branch[mode](tokens, shape, factors[index])));
    if (!this.#poolsFirst()) next((tokens) => this.#finalNorm[mode](tokens, shape));
    next((tokens) => this.#pooled(tokens, shape));
    if (this.#poolsFirst()) next((tokens) => this.#finalNorm[mode](tokens, shape));
    return current;
  }

  backward(embeddingGradient: Tensor2D): void {
    if (this.#shape === undefined) throw new Error('Vision transformer: backward before forward.');
    const shape = this.#shape;
    let current = embeddingGradient;
    const next = (step: (gradient: Tensor2D) => Tensor2D): void => {
      const previous = current;
      current = step(previous);
      if (previous !== embeddingGradient) previous.dispose();
    };
    if (this.#poolsFirst()) next((gradient) => this.#finalNorm.backward(gradient));
    next((gradient) => this.#poolingGradient(gradient, shape));
    if (!this.#poolsFirst()) next((gradient) => this.#finalNorm.backward(gradient));
    for (const branch of [...this.#branches].reverse()) next((gradient) => branch.backward(gradient));
    const preNorm = this.#preNorm;
    if (preNorm !== undefined) next((gradient) => preNorm.backward(gradient));
    this.#embedding.backward(current);
    current.dispose();
    this.#shape = undefined;
  }

  /** A transformer has no running statistics. */
  takeStatistics(): Tensor[] {
    return [];
  }

  commitStatistics(): void {
    // There is nothing to set.
  }

  discard(): void {
    this.#embedding.discard();
    for (const layer of [this.#preNorm, ...this.#branches, this.#finalNorm]) layer?.discard();
    this.#shape = undefined;
  }

  weights(): NamedTensor[] {
    return this.parameters.map(({ name, value, layout }) => fromDevice(name, value, layout));
  }

  dispose(): void {
    this.discard();
    this.#embedding.dispose();
    this.parameters.forEach(disposeParameter);
  }

  /** The class token alone needs the final norm only for itself, which gives the same numbers. */
  #poolsFirst(): boolean {
    return this.#specification.finalNorm === 'AFTER_POOLING' || this.#pooling === 'CLS';
  }

  /**
   * For each branch, each image's factor: 0 with the branch's probability, otherwise what keeps the expectation. As
   * timm, which lets the probability rise linearly from the first block to the last.
   */
  #dropPathFactors(noise: RowNoise, imageCount: number): Float32Array[] {
    if (this.#dropPathRate === 0) return [];
    const { depth } = this.#specification;
    const factors = this.#branches.map(() => new Float32Array(imageCount));
    for (let row = 0; row < imageCount; row += 1) {
      const random = noise(row);
      factors.forEach((ofImages, index) => {
        const kept = 1 - (depth === 1 ? 0 : (this.#dropPathRate * Math.floor(index / 2)) / (depth - 1));
        ofImages[row] = random.uniform() < kept ? 1 / kept : 0;
      });
    }
    return factors;
  }

  #pooled(tokens: Tensor2D, { imageCount, tokenCount }: TokenShape): Tensor2D {
    const { width } = this.#specification;
    const prefixCount = prefixCountOf(this.#specification);
    return scoped(() => {
      const images = asRank3(tf.reshape(tokens, [imageCount, tokenCount, width]));
      const first = (): Tensor => tf.reshape(tf.slice(images, [0, 0, 0], [imageCount, 1, width]), [imageCount, width]);
      const mean = (): Tensor => tf.mean(tf.slice(images, [0, prefixCount, 0], [imageCount, -1, width]), 1);
      switch (this.#pooling) {
        case 'CLS':
          return asRank2(first());
        case 'AVGPOOL':
        case 'MEAN':
          return asRank2(mean());
        case 'CLS_AND_MEAN':
          return asRank2(tf.concat([first(), mean()], 1));
      }
    });
  }

  /** The gradient of the tokens `[N x T, W]` from that of the pooled ones. */
  #poolingGradient(pooledGradient: Tensor2D, { imageCount, tokenCount }: TokenShape): Tensor2D {
    const { width } = this.#specification;
    const prefixCount = prefixCountOf(this.#specification);
    const patchCount = tokenCount - prefixCount;
    return scoped(() => {
      /** `[N, W]`, as the gradient of these tokens of each image. */
      const spread = (gradient: Tensor, start: number, count: number): Tensor =>
        tf.pad3d(asRank3(tf.tile(tf.reshape(gradient, [imageCount, 1, width]), [1, count, 1])), [
          [0, 0],
          [start, tokenCount - start - count],
          [0, 0],
        ]);
      const ofFirst = (gradient: Tensor): Tensor => spread(gradient, 0, 1);
      const ofMean = (gradient: Tensor): Tensor => spread(tf.div(gradient, patchCount), prefixCount, patchCount);
      const ofTokens = (): Tensor => {
        switch (this.#pooling) {
          case 'CLS':
            return ofFirst(pooledGradient);
          case 'AVGPOOL':
          case 'MEAN':
            return ofMean(pooledGradient);
          case 'CLS_AND_MEAN':
            return tf.add(
              ofFirst(tf.slice(pooledGradient, [0, 0], [-1, width])),
              ofMean(tf.slice(pooledGradient, [0, width], [-1, width])),
            );
        }
      };
      return asRank2(tf.reshape(ofTokens(), [-1, width]));
    });
  }
}

/** Matrices are decayed; biases, norms, layer scales, tokens and positions are not (Touvron et al. 2021, DeiT). */
function isDecayed(name: string, shape: readonly number[]): boolean {
  return shape.length > 1 && name.endsWith('.weight');
}

/** 0 for the embedding of tokens, then the blocks, then the norm after them. */
function layerOf(name: string, { depth }: VitSpecification): number {
  const block = /^blocks\.(\d+)\./.exec(name)?.[1];
  if (block !== undefined) return Number(block) + 1;
  return /^(?:norm|fc_norm)\./.test(name) ? depth + 1 : 0;
}
