/** What a process that runs the engine is started with; TensorFlow and the C library read these once, at start. */
export const ENGINE_PROCESS_ENV: Readonly<Record<string, string>> = {
  // Errors only: TensorFlow greets on stderr otherwise.
  TF_CPP_MIN_LOG_LEVEL: '2',
  // TensorFlow takes every activation from malloc, which hands large blocks back to the system at once: each op would
  // fault its pages in anew. Keeping them in one heap gave about 5 % of a 64 px step (docs/benchmarks.md).
  MALLOC_ARENA_MAX: '1',
  MALLOC_MMAP_MAX_: '0',
  MALLOC_TRIM_THRESHOLD_: '4294967296',
};

/** For small work beside a training: TensorFlow takes all of a GPU's memory at once, and rounds there more coarsely than float32 may be held to. */
export const CPU_ONLY_ENV: Readonly<Record<string, string>> = { CUDA_VISIBLE_DEVICES: '-1' };
