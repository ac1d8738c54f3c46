/**
 * The layers of a vision transformer's blocks, each with a hand-written backward pass. They compute on tokens
 * `[N x T, W]`, all tokens of an image in consecutive rows, because every layer but attention works on each token
 * alone.
 */
import { attention, attentionGradient, disposeAttention, type AttentionTrace } from '../../kernels/attention.ts';
import { gatedSilu, gatedSiluGradient, gelu, geluGradient } from '../../kernels/gelu.ts';
import { layerNorm, layerNormGradient, type LayerNormResult } from '../../kernels/layer-norm.ts';
import { linear, linearGradient, linearInput, type LinearState } from '../../kernels/linear.ts';
import { setGradient, type Parameter } from '../../models/parameter.ts';
import { asRank2, scoped, tf, type FloatDtype, type Tensor, type Tensor2D } from '../../tensorflow.ts';

/** How many tokens belong to an image. */
export interface TokenShape {
  readonly imageCount: number;
  readonly tokenCount: number;
}

/** The caller owns every tensor that it passes in or receives. A layer keeps what its backward pass needs. */
export interface Layer {
  /** The result of `forward`, bit for bit, keeping nothing. */
  infer(tokens: Tensor2D, shape: TokenShape): Tensor2D;
  forward(tokens: Tensor2D, shape: TokenShape): Tensor2D;
  /** Sets the gradients of the layer's parameters; returns that of the input of the last `forward`. */
  backward(outputGradient: Tensor2D): Tensor2D;
  /** Frees what an abandoned `forward` keeps. */
  discard(): void;
}

/** input · weightᵀ + bias */
export class Linear implements Layer {
  readonly #weight: Parameter;
  readonly #bias: Parameter | undefined;
  readonly #computeDtype: FloatDtype;
  #input: Tensor | undefined;

  /**
   * @param weight `[out, in]`, as PyTorch has it.
   * @param computeDtype of the factors of each product, whose sums are float32, as in PyTorch's autocast.
   */
  constructor(weight: Parameter, bias: Parameter | undefined, computeDtype: FloatDtype) {
    this.#weight = weight;
    this.#bias = bias;
    this.#computeDtype = computeDtype;
  }

  infer(tokens: Tensor2D): Tensor2D {
    const input = linearInput(tokens, this.#computeDtype);
    const output = linear(input, this.#state());
    input.dispose();
    return output;
  }

  forward(tokens: Tensor2D): Tensor2D {
    this.discard();
    this.#input = linearInput(tokens, this.#computeDtype);
    return linear(this.#input, this.#state());
  }

  #state(): LinearState {
    return { weight: this.#weight.value, bias: this.#bias?.value, computeDtype: this.#computeDtype };
  }

  backward(outputGradient: Tensor2D): Tensor2D {
    const gradients = linearGradient(required(this.#input), this.#state(), outputGradient);
    setGradient(this.#weight, gradients.weight);
    if (this.#bias === undefined) gradients.bias.dispose();
    else setGradient(this.#bias, gradients.bias);
    this.discard();
    return gradients.input;
  }

  discard(): void {
    this.#input?.dispose();
    this.#input = undefined;
  }
}

export class LayerNorm implements Layer {
  readonly #scale: Parameter;
  readonly #offset: Parameter;
  readonly #epsilon: number;
  #trace: (Pick<LayerNormResult, 'mean' | 'inverseStd'> & { readonly input: Tensor2D }) | undefined;

  constructor(scale: Parameter, offset: Parameter, epsilon: number) {
    this.#scale = scale;
    this.#offset = offset;
    this.#epsilon = epsilon;
  }

  #normalised(tokens: Tensor2D): LayerNormResult {
    return layerNorm(tokens, { scale: this.#scale.value, offset: this.#offset.value, epsilon: this.#epsilon });
  }

  infer(tokens: Tensor2D): Tensor2D {
    const { output, mean, inverseStd } = this.#normalised(tokens);
    tf.dispose([mean, inverseStd]);
    return output;
  }

  forward(tokens: Tensor2D): Tensor2D {
    this.discard();
    const { output, mean, inverseStd } = this.#normalised(tokens);
    this.#trace = { input: tokens.clone(), mean, inverseStd };
    return output;
  }

  backward(outputGradient: Tensor2D): Tensor2D {
    const trace = required(this.#trace);
    const gradients = layerNormGradient(trace.input, this.#scale.value, trace, outputGradient);
    setGradient(this.#scale, gradients.scale);
    setGradient(this.#offset, gradients.offset);
    this.discard();
    return gradients.rows;
  }

  discard(): void {
    if (this.#trace !== undefined) tf.dispose([this.#trace.input, this.#trace.mean, this.#trace.inverseStd]);
    this.#trace = undefined;
  }
}

/** From queries, keys and values `[N x T, 3W]` to `[N x T, W]`. */
export class Attention implements Layer {
  readonly #headCount: number;
  #trace: AttentionTrace | undefined;

  constructor(headCount: number) {
    this.#headCount = headCount;
  }

  infer(qkv: Tensor2D, shape: TokenShape): Tensor2D {
    const { output, trace } = attention(qkv, { ...shape, headCount: this.#headCount });
    disposeAttention(trace);
    return output;
  }

  forward(qkv: Tensor2D, shape: TokenShape): Tensor2D {
    this.discard();
    const { output, trace } = attention(qkv, { ...shape, headCount: this.#headCount });
    this.#trace = trace;
    return output;
  }

  backward(outputGradient: Tensor2D): Tensor2D {
    const gradient = attentionGradient(required(this.#trace), outputGradient);
    this.discard();
    return gradient;
  }

  discard(): void {
    if (this.#trace !== undefined) disposeAttention(this.#trace);
    this.#trace = undefined;
  }
}

/** The activation between the two layers of an MLP. */
export class Activation implements Layer {
  readonly #mlp: 'GELU' | 'SWIGLU';
  #input: Tensor2D | undefined;

  constructor(mlp: 'GELU' | 'SWIGLU') {
    this.#mlp = mlp;
  }

  infer(tokens: Tensor2D): Tensor2D {
    return this.#mlp === 'GELU' ? gelu(tokens) : gatedSilu(tokens);
  }

  forward(tokens: Tensor2D): Tensor2D {
    this.discard();
    this.#input = tokens.clone();
    return this.infer(tokens);
  }

  backward(outputGradient: Tensor2D): Tensor2D {
    const input = required(this.#input);
    const gradient =
      this.#mlp === 'GELU' ? geluGradient(input, outputGradient) : gatedSiluGradient(input, outputGradient);
    this.discard();
    return gradient;
  }

  discard(): void {
    this.#input?.dispose();
    this.#input = undefined;
  }
}

/** Each feature times its own factor (Touvron et al. 2021, arXiv:2103.17239). */
export class LayerScale implements Layer {
  readonly #factor: Parameter;
  #input: Tensor2D | undefined;

  constructor(factor: Parameter) {
    this.#factor = factor;
  }

  infer(tokens: Tensor2D): Tensor2D {
    return asRank2(tf.mul(tokens, this.#factor.value));
  }

  forward(tokens: Tensor2D): Tensor2D {
    this.discard();
    this.#input = tokens.clone();
    return this.infer(tokens);
  }

  backward(outputGradient: Tensor2D): Tensor2D {
    const input = required(this.#input);
    setGradient(
      this.#factor,
      scoped(() => tf.sum(tf.mul(outputGradient, input), 0)),
    );
    this.discard();
    return asRank2(tf.mul(outputGradient, this.#factor.value));
  }

  discard(): void {
    this.#input?.dispose();
    this.#input = undefined;
  }
}

function required<Kept>(kept: Kept | undefined): Kept {
  if (kept === undefined) throw new Error('Vision transformer: backward before forward.');
  return kept;
}
