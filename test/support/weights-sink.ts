/** The stored form of an encoder in memory, for tests. */
import { readEncoderFile, type EncoderFile, type EncoderFileTask } from '../../src/modules/models/encoder-file.ts';

/** `readEncoderFile`, and the safetensors that it wrote. */
export async function readEncoderInMemory(
  fds: readonly number[],
  task: EncoderFileTask,
): Promise<EncoderFile & { readonly bytes: Uint8Array<ArrayBuffer> }> {
  let bytes = new Uint8Array(0);
  const read = await readEncoderFile(fds, task, {
    begin: (byteSize) => {
      bytes = new Uint8Array(byteSize);
    },
    write: (part, position) => bytes.set(part, position),
  });
  return { ...read, bytes };
}
