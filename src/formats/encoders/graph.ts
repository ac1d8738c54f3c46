/**
 * The vocabulary in which an encoder family describes its network for formats with a graph (ONNX, TF.js): a list of
 * steps from images to embeddings. A writer translates each kind of step and knows no family; a family lists its steps
 * and knows no format.
 *
 * Weights are named, not held: a name is a tensor of the state dict or one of the graph's constants. Tokens are
 * `[batch x tokens, width]`, all tokens of an image in consecutive rows, because every layer but attention works on
 * each token alone.
 */

/** The name of the graph's input: float32 images, already normalised as the input contract says. */
export const GRAPH_INPUT = 'images';
/** The name of the graph's output, `[batch, D]`. */
export const GRAPH_OUTPUT = 'embeddings';

/** A square window with the same padding on all four sides, in pixels of its input. */
export interface GraphWindow {
  readonly size: number;
  readonly stride: number;
  readonly padding: number;
}

/** A convolution without bias, its batch norm and, if present, the ReLU after it. */
export interface ConvolutionUnitStep {
  readonly kind: 'CONVOLUTION_UNIT';
  readonly input: string;
  readonly output: string;
  /** `layer1.0.conv1`: its filter is the tensor `layer1.0.conv1.weight`. */
  readonly convolutionName: string;
  /** `layer1.0.bn1` */
  readonly normName: string;
  readonly inputChannels: number;
  readonly outputChannels: number;
  readonly window: GraphWindow;
  readonly hasRelu: boolean;
  readonly epsilon: number;
}

/**
 * Square patches of the image, each by one linear map: a convolution whose size and stride are `patchSizePx`. In front
 * of the patches of each image `prefixCount` tokens of zeros are put; then `offsets` is added, which holds the class
 * token, the registers and the position embeddings.
 */
export interface PatchTokensStep {
  readonly kind: 'PATCH_TOKENS';
  readonly input: string;
  readonly output: string;
  /** `[width, 3, patchSizePx, patchSizePx]` */
  readonly weight: string;
  /** `[width]` */
  readonly bias: string | undefined;
  readonly patchSizePx: number;
  readonly width: number;
  readonly prefixCount: number;
  /** Tokens of one image, prefix included. */
  readonly tokenCount: number;
  /** `[1, tokenCount, width]` */
  readonly offsets: string;
}

/** `input · weightᵀ + bias` for every token. */
export interface LinearStep {
  readonly kind: 'LINEAR';
  readonly input: string;
  readonly output: string;
  /** `[outputWidth, inputWidth]` */
  readonly weight: string;
  readonly bias: string | undefined;
}

export interface LayerNormStep {
  readonly kind: 'LAYER_NORM';
  readonly input: string;
  readonly output: string;
  readonly scale: string;
  readonly offset: string;
  readonly width: number;
  readonly epsilon: number;
}

/** Multi-head self-attention within each image, from queries, keys and values `[batch x tokens, 3 x width]`. */
export interface AttentionStep {
  readonly kind: 'ATTENTION';
  readonly input: string;
  readonly output: string;
  readonly tokenCount: number;
  readonly headCount: number;
  readonly width: number;
}

/** Tokens `[batch x tokenCount, width]` to `[batch, D]`. */
export interface PoolTokensStep {
  readonly kind: 'POOL_TOKENS';
  readonly input: string;
  readonly output: string;
  readonly pooling: 'CLS' | 'MEAN' | 'CLS_AND_MEAN';
  readonly tokenCount: number;
  /** Tokens in front of the patches, which the mean leaves out. */
  readonly prefixCount: number;
  readonly width: number;
}

/** One step; `input`, `left`, `right` are outputs of earlier steps or `GRAPH_INPUT`. */
export type GraphStep =
  | ConvolutionUnitStep
  | { readonly kind: 'MAX_POOL'; readonly input: string; readonly output: string; readonly window: GraphWindow }
  | { readonly kind: 'ADD'; readonly left: string; readonly right: string; readonly output: string }
  | { readonly kind: 'ADD_THEN_RELU'; readonly left: string; readonly right: string; readonly output: string }
  | { readonly kind: 'GLOBAL_AVERAGE'; readonly input: string; readonly output: string }
  | PatchTokensStep
  | LinearStep
  | LayerNormStep
  | AttentionStep
  | PoolTokensStep
  /** x · Φ(x) with the exact normal distribution (Hendrycks and Gimpel 2016, arXiv:1606.08415). */
  | { readonly kind: 'GELU'; readonly input: string; readonly output: string }
  /** SiLU of the first half of the features times the second half (Shazeer 2020, arXiv:2002.05202). */
  | { readonly kind: 'SWIGLU'; readonly input: string; readonly output: string; readonly inputWidth: number }
  /** Each feature times its own factor, `[width]`. */
  | { readonly kind: 'SCALE'; readonly input: string; readonly output: string; readonly factor: string };

/** A tensor that the family computes for the graph, because the state dict does not hold it. */
export interface GraphConstant {
  readonly name: string;
  readonly shape: readonly number[];
  readonly data: Float32Array;
}

export interface EncoderGraph {
  readonly steps: readonly GraphStep[];
  readonly constants: readonly GraphConstant[];
  /** Undefined if the graph takes images of any size; otherwise the only side, in px. */
  readonly imageSizePx: number | undefined;
}
