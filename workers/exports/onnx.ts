/**
 * Embeds by an ONNX file with ONNX Runtime. The WebAssembly build (onnxruntime-web) is used rather than the native one
 * (onnxruntime-node), because it has half the size on disk (148 against 291 MB, of which any one machine uses a fifth),
 * is the same file on every platform, and cannot conflict with TensorFlow's libraries in one process or crash it. It
 * takes about twice the CPU time, a few seconds for a ResNet-50. `npm run compat` holds the native build to the same
 * bound.
 */
import { env, InferenceSession, Tensor } from 'onnxruntime-web';

// Additional threads would save little time beside TensorFlow's, and would have to be ended.
env.wasm.numThreads = 1;
env.logLevel = 'error';

/**
 * @param images float32 `[N, 3, S, S]`, normalised.
 * @returns `[N, D]`, of which the first row was computed in a separate batch, because the batch size must be free.
 * @throws Error with the library's message for a file that it does not load or run.
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
