/**
 * The forward pass of a vision transformer at inference. Tokens are `[N x T, W]`, all tokens of an image in consecutive
 * rows, because every layer but attention works on each token alone.
 */
import type { Pooling } from '../../../../src/formats/encoders/architecture.ts';
import { tokenOffsets } from '../../../../src/formats/encoders/vit/positions.ts';
import {
  prefixCountOf,
  vitTensorSpecs,
  type VitSpecification,
} from '../../../../src/formats/encoders/vit/specification.ts';
import { checkTensors } from '../../../../src/formats/tensor-check.ts';
import type { NamedTensor } from '../../named-tensor.ts';
import {
  asRank2,
  asRank3,
  asRank4,
  boolAttr,
  runOp,
  scoped,
  T_FLOAT,
  tf,
  type Tensor,
  type Tensor2D,
  type Tensor4D,
} from '../../tensorflow.ts';
import type { InferenceEncoder } from '../encoder.ts';

export class VisionTransformer implements InferenceEncoder {
  readonly embeddingDim: number;
  readonly #specification: VitSpecification;
  readonly #pooling: Pooling;
  /** On the device, under timm's names; the patches' filter is HWIO there. */
  readonly #weights = new Map<string, Tensor>();
  /** Those from which the offsets of tokens are computed for each grid. */
  readonly #positions = new Map<string, Float32Array>();
  /** `[1, T, W]`, for the grid of the last images. */
  #offsets: { readonly grid: string; readonly value: Tensor } | undefined;

  /**
   * @param tensors timm's state dict.
   * @throws WeightsMismatchError that lists every missing, unexpected and mismatched tensor.
   */
  constructor(specification: VitSpecification, tensors: readonly NamedTensor[], pooling: Pooling) {
    const specs = vitTensorSpecs(specification);
    const checked = checkTensors(
      'the vision transformer',
      tensors,
      specs.map(({ name, shape, required }) => ({ name, dtype: 'F32', shape, required })),
    );
    this.#specification = specification;
    this.#pooling = pooling;
    this.embeddingDim = pooling === 'CLS_AND_MEAN' ? 2 * specification.width : specification.width;
    for (const { name, dtype, data, shape } of checked.values()) {
      if (dtype !== 'F32') throw new TypeError(`${name} must be F32, not ${dtype}.`);
      if (['cls_token', 'reg_token', 'pos_embed'].includes(name)) this.#positions.set(name, data);
      else this.#weights.set(name, onDevice(data, shape));
    }
  }

  embed(images: Tensor4D): Tensor2D {
    const { width, depth, patchSizePx, hasPreNorm, finalNorm } = this.#specification;
    const [imageCount, height, imageWidth, channels] = images.shape;
    if (channels !== 3 || height % patchSizePx !== 0 || imageWidth % patchSizePx !== 0 || height * imageWidth === 0)
      throw new RangeError(
        `Images must be [N, H, W, 3] with sides of a multiple of ${patchSizePx} px, not [${images.shape.join(', ')}].`,
      );
    const [rows, columns] = [height / patchSizePx, imageWidth / patchSizePx];
    const offsets = this.#offsetsOf(rows, columns);
    let tokens = scoped(() => {
      const patches = this.#withBias(
        asRank4(tf.conv2d(images, asRank4(this.#weight('patch_embed.proj.weight')), patchSizePx, 'valid')),
        'patch_embed.proj.bias',
      );
      const listed = asRank3(tf.reshape(patches, [imageCount, rows * columns, width]));
      const padded = tf.pad3d(listed, [
        [0, 0],
        [prefixCountOf(this.#specification), 0],
        [0, 0],
      ]);
      return asRank2(tf.reshape(tf.add(padded, offsets), [-1, width]));
    });
    const next = (step: (current: Tensor2D) => Tensor2D): void => {
      const previous = tokens;
      tokens = scoped(() => step(previous));
      previous.dispose();
    };
    if (hasPreNorm) next((current) => this.#norm('norm_pre', current));
    for (let index = 0; index < depth; index += 1) {
      next((current) =>
        this.#residual(`blocks.${index}`, 1, current, (x) => this.#attention(`blocks.${index}`, x, imageCount)),
      );
      next((current) => this.#residual(`blocks.${index}`, 2, current, (x) => this.#mlp(`blocks.${index}`, x)));
    }
    if (finalNorm === 'BEFORE_POOLING') next((current) => this.#norm('norm', current));
    next((current) => this.#pooled(current, imageCount));
    if (finalNorm === 'AFTER_POOLING') next((current) => this.#norm('fc_norm', current));
    return tokens;
  }

  dispose(): void {
    for (const weight of this.#weights.values()) weight.dispose();
    this.#weights.clear();
    this.#offsets?.value.dispose();
    this.#offsets = undefined;
  }

  #weight(name: string): Tensor {
    const weight = this.#weights.get(name);
    if (weight === undefined) throw new Error(`${name} is missing from weights that were checked.`);
    return weight;
  }

  #withBias(values: Tensor, name: string): Tensor {
    const bias = this.#weights.get(name);
    return bias === undefined ? values : tf.add(values, bias);
  }

  #offsetsOf(rows: number, columns: number): Tensor {
    const grid = `${rows}x${columns}`;
    if (this.#offsets?.grid === grid) return this.#offsets.value;
    this.#offsets?.value.dispose();
    const values = tokenOffsets(this.#specification, this.#positions, rows, columns);
    const { width } = this.#specification;
    // Kept, because it is used again after the caller's scope has ended.
    const value = tf.keep(tf.tensor3d(values, [1, values.length / width, width]));
    this.#offsets = { grid, value };
    return value;
  }

  #linear(name: string, input: Tensor): Tensor {
    const product = runOp(
      'MatMul',
      [T_FLOAT, boolAttr('transpose_a', false), boolAttr('transpose_b', true)],
      [input, this.#weight(`${name}.weight`)],
    );
    return this.#withBias(product, `${name}.bias`);
  }

  #norm(name: string, input: Tensor2D): Tensor2D {
    const mean = tf.mean(input, 1, true);
    const centred = tf.sub(input, mean);
    const variance = tf.mean(tf.square(centred), 1, true);
    const normalised = tf.mul(centred, tf.rsqrt(tf.add(variance, this.#specification.normEpsilon)));
    return asRank2(tf.add(tf.mul(normalised, this.#weight(`${name}.weight`)), this.#weight(`${name}.bias`)));
  }

  /** x + scale(f(norm(x))), or x + scale(norm(f(x))). */
  #residual(block: string, part: 1 | 2, input: Tensor2D, layers: (tokens: Tensor2D) => Tensor2D): Tensor2D {
    const norm = (tokens: Tensor2D): Tensor2D => this.#norm(`${block}.norm${part}`, tokens);
    const branch = this.#specification.blockNorm === 'PRE' ? layers(norm(input)) : norm(layers(input));
    const scale = this.#weights.get(`${block}.ls${part}.gamma`);
    return asRank2(tf.add(input, scale === undefined ? branch : tf.mul(branch, scale)));
  }

  #attention(block: string, tokens: Tensor2D, imageCount: number): Tensor2D {
    const { width, headCount } = this.#specification;
    const tokenCount = tokens.shape[0] / imageCount;
    const headWidth = width / headCount;
    const parts = tf.split(this.#linear(`${block}.attn.qkv`, tokens), 3, 1);
    const [query, key, value] = parts.map((part) =>
      tf.transpose(tf.reshape(part, [imageCount, tokenCount, headCount, headWidth]), [0, 2, 1, 3]),
    );
    if (query === undefined || key === undefined || value === undefined)
      throw new Error('split gave fewer than 3 parts');
    const products = tf.matMul(tf.mul(query, 1 / Math.sqrt(headWidth)), key, false, true);
    const mixed = tf.matMul(tf.softmax(products), value);
    const joined = tf.reshape(tf.transpose(mixed, [0, 2, 1, 3]), [imageCount * tokenCount, width]);
    return asRank2(this.#linear(`${block}.attn.proj`, joined));
  }

  #mlp(block: string, tokens: Tensor2D): Tensor2D {
    const hidden = this.#linear(`${block}.mlp.fc1`, tokens);
    return asRank2(
      this.#linear(`${block}.mlp.fc2`, this.#specification.mlp === 'GELU' ? gelu(hidden) : gatedSilu(hidden)),
    );
  }

  #pooled(tokens: Tensor2D, imageCount: number): Tensor2D {
    const { width } = this.#specification;
    const prefixCount = prefixCountOf(this.#specification);
    const images = asRank3(tf.reshape(tokens, [imageCount, -1, width]));
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
  }
}

/** Puts float32 numbers on the device, turning the OIHW filter of the patches into HWIO. */
function onDevice(data: Float32Array, shape: readonly number[]): Tensor {
  // The array is copied, because TensorFlow reads it in place for as long as the tensor lives.
  const value = tf.tensor(data.slice(), [...shape], 'float32');
  if (shape.length !== 4) return value;
  const filter = tf.transpose(value, [2, 3, 1, 0]);
  value.dispose();
  return filter;
}

/** x · Φ(x) with the exact normal distribution. */
function gelu(x: Tensor): Tensor {
  return tf.mul(x, tf.mul(tf.add(tf.erf(tf.mul(x, Math.SQRT1_2)), 1), 0.5));
}

/** SiLU of the first half of the features times the second half. */
function gatedSilu(x: Tensor): Tensor {
  const [gate, value] = tf.split(x, 2, 1);
  if (gate === undefined || value === undefined) throw new Error('split gave fewer than 2 parts');
  return tf.mul(tf.mul(gate, tf.sigmoid(gate)), value);
}
