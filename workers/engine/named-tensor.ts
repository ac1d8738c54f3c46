/** Weights outside TensorFlow: a name, a shape and numbers, as in files. */

/** One tensor under its torchvision name and layout (`layer1.0.conv1.weight` is OIHW). */
export type NamedTensor =
  | { readonly name: string; readonly dtype: 'F32'; readonly shape: readonly number[]; readonly data: Float32Array }
  | { readonly name: string; readonly dtype: 'I64'; readonly shape: readonly number[]; readonly data: BigInt64Array }
  | { readonly name: string; readonly dtype: 'U8'; readonly shape: readonly number[]; readonly data: Uint8Array };
