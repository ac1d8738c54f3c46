/** What a process that runs the engine is started with; TensorFlow and the C library read these once, at start. */
export const ENGINE_PROCESS_ENV: Readonly<Record<string, string>> = {
  // Errors only: TensorFlow greets on stderr otherwise.
  TF_CPP_MIN_LOG_LEVEL: '2',
  // TensorFlow takes every activation from malloc, which hands large blocks back to the system at once: each op would
  // fault its pages in again. Keeping them in one heap gave about 5 % of a 64 px step (docs/benchmarks.md).
  MALLOC_ARENA_MAX: '1',
  MALLOC_MMAP_MAX_: '0',
  MALLOC_TRIM_THRESHOLD_: '4294967296',
};

/** For small work beside a training, where no second counts but the numbers do. */
export const PLAIN_CPU_ENV: Readonly<Record<string, string>> = {
  // TensorFlow takes all of a GPU's memory at once, and rounds there more coarsely than float32 may be held to.
  CUDA_VISIBLE_DEVICES: '-1',
  // oneDNN divides by the sizes of caches. Some virtual machines hide theirs, and a 1x1 convolution then ends the
  // process with SIGFPE.
  TF_ENABLE_ONEDNN_OPTS: '0',
};
