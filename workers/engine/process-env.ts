/** Environment variables of a process that runs the engine; TensorFlow and the C library read them once, at start. */
export const ENGINE_PROCESS_ENV: Readonly<Record<string, string>> = {
  // Logs errors only; TensorFlow otherwise prints a greeting on stderr.
  TF_CPP_MIN_LOG_LEVEL: '2',
  // TensorFlow allocates every activation with malloc, which returns large blocks to the system at once, so that each
  // op would fault its pages in again. Keeping them in one heap saved about 5 % of a 64 px step (docs/benchmarks.md).
  MALLOC_ARENA_MAX: '1',
  MALLOC_MMAP_MAX_: '0',
  MALLOC_TRIM_THRESHOLD_: '4294967296',
};

/** For small work beside a training, where speed does not matter but the numbers do. */
export const PLAIN_CPU_ENV: Readonly<Record<string, string>> = {
  // On a GPU, TensorFlow reserves all memory at once and rounds more coarsely than the float32 tolerance allows.
  CUDA_VISIBLE_DEVICES: '-1',
  // oneDNN divides by the sizes of caches, which some virtual machines hide; a 1x1 convolution then ends the process
  // with SIGFPE.
  TF_ENABLE_ONEDNN_OPTS: '0',
};
