/** The values of a parsed pickle: data, and placeholders for everything that would have been code. */
import type { TorchDtype } from './dtype.ts';

export type PickleValue = null | boolean | number | bigint | string | PickleNode;

export type PickleNode =
  | PickleBytes
  | PickleList
  | PickleTuple
  | PickleSet
  | PickleDict
  | Builder
  | StorageType
  | DtypeName
  | StorageView
  | TensorView
  | Placeholder;

/** A bytes object, of which only the length is kept: its content is never read, and calls could multiply it. */
export interface PickleBytes {
  readonly kind: 'BYTES';
  readonly byteSize: number;
}
export interface PickleList {
  readonly kind: 'LIST';
  readonly items: PickleValue[];
}
export interface PickleTuple {
  readonly kind: 'TUPLE';
  readonly items: readonly PickleValue[];
}
export interface PickleSet {
  readonly kind: 'SET';
  readonly items: Set<PickleValue>;
}
/** A dict or OrderedDict. As in Python, a key that is set again keeps its place and takes the new value. */
export interface PickleDict {
  readonly kind: 'DICT';
  readonly entries: Map<PickleValue, PickleValue>;
}
/** One of the few globals whose call produces data; each is implemented explicitly. */
export interface Builder {
  readonly kind: 'BUILDER';
  readonly builds:
    | 'DICT'
    | 'DEFAULT_DICT'
    | 'LIST'
    | 'TUPLE'
    | 'SET'
    | 'BYTES'
    | 'TENSOR'
    | 'TENSOR_WITH_DTYPE'
    | 'PARAMETER'
    | 'TENSOR_OF_TYPE';
}
/** `torch.FloatStorage` and its like; without a dtype it is `torch.storage.UntypedStorage`, counted in bytes. */
export interface StorageType {
  readonly kind: 'STORAGE_TYPE';
  readonly dtype: TorchDtype | undefined;
}
/** `torch.float32` and its like. */
export interface DtypeName {
  readonly kind: 'DTYPE';
  readonly dtype: TorchDtype;
}
export interface StorageView {
  readonly kind: 'STORAGE';
  readonly key: string;
  readonly dtype: TorchDtype | undefined;
  /** Where the view begins in its storage, in bytes. */
  readonly byteOffset: number;
  readonly byteSize: number;
}
export interface TensorView {
  readonly kind: 'TENSOR';
  readonly storageKey: string;
  readonly dtype: TorchDtype;
  readonly shape: readonly number[];
  /** In elements. */
  readonly strides: readonly number[];
  /** Offset of the first element in the storage, in bytes. */
  readonly byteOffset: number;
}
/** Any other global, or the result of calling it: inert. Its arguments are discarded. */
export interface Placeholder {
  readonly kind: 'PLACEHOLDER';
  /** `posix.system` */
  readonly name: string;
}
