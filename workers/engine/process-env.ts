/** What a process that runs the engine is started with; TensorFlow and the C library read these once, at start. */
export const ENGINE_PROCESS_ENV: Readonly<Record<string, string>> = {
  // Errors only: TensorFlow greets on stderr otherwise.
  TF_CPP_MIN_LOG_LEVEL: '2',
  // TensorFlow takes every activation from malloc, which hands large blocks back to the system at once: each op would
  // fault its pages in anew. Keeping them in one heap gave about 5 % of a 64 px step (docs/benchmarks.md).
  MALLOC_ARENA_MAX: '1',
  MALLOC_MMAP_MAX_: '0',
  MALLOC_TRIM_THRESHOLD_: '4294967296',
  // Of a GPU, what is used and no more: TensorFlow takes all of its memory at the start otherwise.
  TF_FORCE_GPU_ALLOW_GROWTH: 'true',
  // NVIDIA's libraries round float32 to TF32 (10 bits of mantissa) in convolutions and products otherwise. FLOAT32 is to mean
  // float32, as on the CPU; who wants the speed of fewer bits asks for BFLOAT16, and the run says so.
  NVIDIA_TF32_OVERRIDE: '0',
};

/** For small work beside a training, where no second counts but the numbers do. */
export const PLAIN_CPU_ENV: Readonly<Record<string, string>> = {
  // TensorFlow takes all of a GPU's memory at once, and rounds there more coarsely than float32 may be held to.
  CUDA_VISIBLE_DEVICES: '-1',
  // oneDNN divides by the sizes of caches. Some virtual machines hide theirs, and a 1x1 convolution then ends the process with SIGFPE.
  TF_ENABLE_ONEDNN_OPTS: '0',
};
