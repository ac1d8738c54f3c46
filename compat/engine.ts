/**
 * Embeds the shared images with Paraffin's engine, in a separate process, because TensorFlow blocks the process that it
 * runs in.
 *
 *   node compat/engine.ts WORK_DIR ENCODER...
 *
 * For every `WORK_DIR/<encoder>/<name>.safetensors` it writes `engine-<name>-<size>.f32` to the same folder.
 */
import { readdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { readSafetensors } from '../src/formats/safetensors.ts';
import { embedPixels } from '../workers/engine/embed.ts';
import { encoderFromWeights, ENCODER_ARCHITECTURES } from '../workers/engine/encoders/resnet/network.ts';
import { COMPAT_CONTRACT, IMAGE_COUNT, LARGE_SIZE_PX, SMALL_SIZE_PX } from './images.ts';

const [workDir = '.', ...encoders] = process.argv.slice(2);
for (const architecture of ENCODER_ARCHITECTURES.filter((name) => encoders.includes(name))) {
  const folder = path.join(workDir, architecture);
  for (const fileName of (await readdir(folder)).filter((name) => name.endsWith('.safetensors'))) {
    const encoder = encoderFromWeights(
      architecture,
      readSafetensors(await readFile(path.join(folder, fileName))).tensors,
    );
    for (const sizePx of [LARGE_SIZE_PX, SMALL_SIZE_PX]) {
      const pixels = await readFile(path.join(workDir, `images-${sizePx}.u8`));
      const embeddings = embedPixels(encoder, pixels, IMAGE_COUNT, sizePx, {
        channelMean: COMPAT_CONTRACT.channelMean,
        channelStd: COMPAT_CONTRACT.channelStd,
      });
      await writeFile(path.join(folder, `engine-${path.basename(fileName, '.safetensors')}-${sizePx}.f32`), embeddings);
    }
    encoder.dispose();
  }
}
