/** Weights outside TensorFlow: a name, a shape and numbers, as in files. */

/** Numbers of 16 bits, row-major, each of which is a float32 too. */
export interface HalfPrecision {
  readonly dtype: 'float16' | 'bfloat16';
  readonly bits: Uint16Array;
}

/** One tensor under its torchvision name and layout (`layer1.0.conv1.weight` is OIHW). */
export type NamedTensor =
  | {
      readonly name: string;
      readonly dtype: 'F32';
      readonly shape: readonly number[];
      readonly data: Float32Array;
      /** The length of `data`, if it is read or drawn whenever it is asked for. */
      readonly elementCount?: number | undefined;
      /** The same numbers, where they come from a file in half precision. */
      readonly half?: HalfPrecision;
    }
  | { readonly name: string; readonly dtype: 'I64'; readonly shape: readonly number[]; readonly data: BigInt64Array }
  | { readonly name: string; readonly dtype: 'U8'; readonly shape: readonly number[]; readonly data: Uint8Array };
