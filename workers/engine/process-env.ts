/** What a process that runs the engine is started with; TensorFlow and the C library read these once, at start. */
export const ENGINE_PROCESS_ENV: Readonly<Record<string, string>> = {
  // Errors only: TensorFlow greets on stderr otherwise.
  TF_CPP_MIN_LOG_LEVEL: '2',
};
