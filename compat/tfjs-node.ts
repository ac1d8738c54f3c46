/**
 * Runs plain `@tensorflow/tfjs` with its JavaScript backend in a separate process, as a browser without a GPU would.
 *
 *   node compat/tfjs-node.ts WORK_DIR ENCODER...
 *
 * Reads `WORK_DIR/<encoder>/tfjs/`, writes `WORK_DIR/<encoder>/tfjs-64.f32` and prints the library's version.
 */
import '../workers/engine/node-util-compat.ts';
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import * as tf from '@tensorflow/tfjs';
import { COMPAT_CONTRACT, IMAGE_COUNT, SMALL_SIZE_PX } from './images.ts';

const [workDir = '.', ...encoders] = process.argv.slice(2);
await tf.setBackend('cpu');
const pixels = await readFile(path.join(workDir, `images-${SMALL_SIZE_PX}.u8`));
const { channelMean, channelStd } = COMPAT_CONTRACT;
const scaled = tf.tensor4d(Float32Array.from(pixels), [IMAGE_COUNT, SMALL_SIZE_PX, SMALL_SIZE_PX, 3]).div(255);
const images = scaled.sub(tf.tensor1d([...channelMean])).div(tf.tensor1d([...channelStd]));
for (const encoder of encoders) {
  const folder = path.join(workDir, encoder, 'tfjs');
  const model = await tf.loadGraphModel({ load: async () => loadFiles(folder) });
  const embeddings = model.execute({ images }, 'embeddings');
  if (Array.isArray(embeddings)) throw new TypeError('One output was requested.');
  await writeFile(path.join(workDir, encoder, `tfjs-${SMALL_SIZE_PX}.f32`), await embeddings.data());
  model.dispose();
}
console.log(JSON.stringify({ tfjs: tf.version.tfjs, backend: tf.getBackend() }));

/** Does what tfjs's own loader does for a URL: loads the files named by the manifest, one after the other. */
async function loadFiles(folder: string): Promise<tf.io.ModelArtifacts> {
  const model: tf.io.ModelJSON = JSON.parse(await readFile(path.join(folder, 'model.json'), 'utf8'));
  return tf.io.getModelArtifactsForJSON(model, async (manifest) => {
    const shards = await Promise.all(
      manifest.flatMap(({ paths }) => paths).map((name) => readFile(path.join(folder, name))),
    );
    return [manifest.flatMap(({ weights }) => weights), new Uint8Array(Buffer.concat(shards)).buffer];
  });
}
