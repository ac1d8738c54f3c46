/** Resource limits for reading a checkpoint. */
export interface TorchCheckpointLimits {
  readonly maxFileBytes: number;
  /** Entries of the zip. */
  readonly maxEntries: number;
  /** One pickle, without the storages. */
  readonly maxPickleBytes: number;
  /** Opcodes, and values copied by one call; bounds time and memory together. */
  readonly maxSteps: number;
  readonly maxMemoEntries: number;
  /** Containers within containers. */
  readonly maxNesting: number;
  /** One string or bytes object of the pickle, in bytes. */
  readonly maxTextBytes: number;
  /** A module or class name, a key of a dict that leads to a tensor, in characters. */
  readonly maxNameLength: number;
  /** One integer, in bytes. */
  readonly maxIntegerBytes: number;
  readonly maxRank: number;
  readonly maxTensors: number;
  /** One tensor, in bytes. */
  readonly maxTensorBytes: number;
  /**
   * All listed tensors together may hold, or read, this many times the file's bytes plus `freeTensorBytes`: many views
   * can share one storage, and a stride of 0 turns one value into a terabyte.
   */
  readonly maxExpansion: number;
  readonly freeTensorBytes: number;
  /** Scalars that are listed; the others are left out. */
  readonly maxScalars: number;
}

const MIB = 1024 * 1024;

export const DEFAULT_TORCH_CHECKPOINT_LIMITS: TorchCheckpointLimits = {
  // Only the tensors that are needed are read, one at a time, so that the size of a file costs no memory.
  maxFileBytes: Number.MAX_SAFE_INTEGER,
  maxEntries: 100_000,
  maxPickleBytes: 64 * MIB,
  maxSteps: 2_000_000,
  maxMemoEntries: 1_000_000,
  maxNesting: 256,
  maxTextBytes: 16 * MIB,
  maxNameLength: 1024,
  maxIntegerBytes: 1024,
  maxRank: 64,
  maxTensors: 100_000,
  maxTensorBytes: 2 * 1024 * MIB,
  maxExpansion: 4,
  freeTensorBytes: 64 * MIB,
  maxScalars: 1000,
};
