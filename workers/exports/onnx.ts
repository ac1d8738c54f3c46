/**
 * Embeds by an ONNX file with ONNX Runtime.
 *
 * Its WebAssembly build (onnxruntime-web) rather than the native one (onnxruntime-node): half the size on disk (148
 * against 291 MB, of which any one machine uses a fifth), the same file on every platform, and nothing that could meet
 * TensorFlow's libraries in one process or take it down. It costs about twice the CPU time, a few seconds for a
 * ResNet-50. The native one must meet the same bound by `npm run compat`.
 */
import { env, InferenceSession, Tensor } from 'onnxruntime-web';

// Threads of its own would be worth little beside TensorFlow's, and must be ended.
env.wasm.numThreads = 1;
env.logLevel = 'error';

/**
 * @param images float32 `[N, 3, S, S]`, normalised.
 * @returns `[N, D]`, of which the first row was computed in a batch of its own: the batch must be free.
 * @throws Error with the library's words for a file that it does not load or run.
 */
export async function embedByOnnx(
  file: Uint8Array,
  images: Float32Array,
  imageCount: number,
  imageSizePx: number,
): Promise<Float32Array> {
  const session = await InferenceSession.create(file, { executionProviders: ['wasm'] });
  try {
    const imageLength = images.length / imageCount;
    const embed = async (first: number, count: number): Promise<Float32Array> => {
      const input = new Tensor('float32', images.slice(first * imageLength, (first + count) * imageLength), [
        count,
        3,
        imageSizePx,
        imageSizePx,
      ]);
      const { embeddings } = await session.run({ images: input }, ['embeddings']);
      if (!(embeddings?.data instanceof Float32Array)) throw new TypeError('The output "embeddings" is not float32.');
      return embeddings.data;
    };
    return Float32Array.from([...(await embed(0, 1)), ...(await embed(1, imageCount - 1))]);
  } finally {
    await session.release();
  }
}
