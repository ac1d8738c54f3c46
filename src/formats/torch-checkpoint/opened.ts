import type { PickleValue } from './pickle-values.ts';
import type { InertGlobal } from './torch-host.ts';

/** Bytes of the storages, by the keys that the pickle gives them. */
export interface StorageReader {
  /**
   * `length` bytes of a declared storage from `byteOffset`; the range was checked before. Aligned, and the caller's
   * own.
   * @param into as many bytes to fill, instead of new ones.
   */
  read(
    key: string,
    byteOffset: number,
    length: number,
    into?: Uint8Array<ArrayBuffer>,
  ): Promise<Uint8Array<ArrayBuffer>>;
}

/** A checkpoint whose pickle was read and whose storages are where it says, each of its size. */
export interface OpenedCheckpoint {
  readonly format: 'ZIP' | 'LEGACY';
  readonly value: PickleValue;
  readonly inertGlobals: readonly InertGlobal[];
  readonly storages: StorageReader;
}
