import type { PickleValue } from './pickle-values.ts';
import type { InertGlobal } from './torch-host.ts';

/** Bytes of the storages, by the keys that the pickle gives them. */
export interface StorageReader {
  /**
   * `length` bytes of a declared storage from `byteOffset`; the range was checked before. The buffer is aligned, and
   * the caller owns it.
   * @param into a buffer of the same length to fill instead of a new one.
   */
  read(
    key: string,
    byteOffset: number,
    length: number,
    into?: Uint8Array<ArrayBuffer>,
  ): Promise<Uint8Array<ArrayBuffer>>;
}

/** A checkpoint whose pickle was read and whose storages all exist with the declared sizes. */
export interface OpenedCheckpoint {
  readonly format: 'ZIP' | 'LEGACY';
  readonly value: PickleValue;
  readonly inertGlobals: readonly InertGlobal[];
  readonly storages: StorageReader;
}
