/**
 * Embeds by a TF.js zip as its users would: unzip, `tf.loadGraphModel`, one call. It runs on TensorFlow's kernels; `npm
 * run compat` does the same in a browser.
 */
import { buffer as bytesOf } from 'node:stream/consumers';
import yauzl from 'yauzl';
import { readFloats, tf } from '../engine/tensorflow.ts';

/**
 * @param images float32 `[N, S, S, 3]`, normalised.
 * @returns `[N, D]`
 * @throws Error with the library's message for a file that it does not load or run.
 */
export async function embedByTfjs(
  file: Uint8Array,
  images: Float32Array,
  imageCount: number,
  imageSizePx: number,
): Promise<Float32Array> {
  const files = await unzipped(file);
  const fileNamed = (name: string): Buffer => {
    const found = files.get(name);
    if (found === undefined) throw new Error(`The zip has no file ${name}.`);
    return found;
  };
  const description: Parameters<typeof tf.io.getModelArtifactsForJSON>[0] = JSON.parse(
    fileNamed('model.json').toString('utf8'),
  );
  const model = await tf.loadGraphModel({
    load: () =>
      tf.io.getModelArtifactsForJSON(description, async (manifest) => [
        manifest.flatMap(({ weights }) => weights),
        new Uint8Array(Buffer.concat(manifest.flatMap(({ paths }) => paths.map(fileNamed)))).buffer,
      ]),
  });
  const input = tf.tensor4d(images, [imageCount, imageSizePx, imageSizePx, 3]);
  try {
    const output = model.execute({ images: input }, 'embeddings');
    if (Array.isArray(output)) throw new TypeError('One output was requested.');
    const embeddings = readFloats(output);
    output.dispose();
    return embeddings;
  } finally {
    input.dispose();
    model.dispose();
  }
}

async function unzipped(file: Uint8Array): Promise<Map<string, Buffer>> {
  const zip = await yauzl.fromBufferPromise(Buffer.from(file.buffer, file.byteOffset, file.byteLength), {
    lazyEntries: true,
  });
  const files = new Map<string, Buffer>();
  for await (const entry of zip.eachEntry())
    files.set(entry.fileName, await bytesOf(await zip.openReadStreamPromise(entry)));
  return files;
}
