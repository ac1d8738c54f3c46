/**
 * Paraffin's side of the comparison of vision transformers: imports what timm saved, embeds, and writes the exports.
 *
 *   node compat/vit-engine.ts WORK_DIR NAME...
 *
 * For every `WORK_DIR/<name>/plain.pt` and `plain.safetensors` it writes `engine-pickle-<size>.f32` and
 * `engine-safetensors-<size>.f32`, and from the pickle `weights.safetensors`, `encoder.pt`, `encoder.onnx` and
 * `tfjs-node-<size>.f32`.
 */
import { open, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';
import { POOLINGS } from '../src/formats/encoders/index.ts';
import type { EncoderExport } from '../src/formats/encoder-export.ts';
import { writeExport } from '../src/formats/export-formats.ts';
import { readSafetensors } from '../src/formats/safetensors.ts';
import { readEncoderFile } from '../src/modules/models/encoder-file.ts';
import { openEncoder } from '../workers/engine/encoders/index.ts';
import { embedPixels } from '../workers/engine/embed.ts';
import { normalisedPixels } from '../workers/exports/check-images.ts';
import { embedByTfjs } from '../workers/exports/tfjs.ts';
import { COMPAT_CONTRACT, IMAGE_COUNT } from './images.ts';
import { inputContractSchema } from '../src/protocol/checkpoint.ts';

const useSchema = z.object({
  pooling: z.enum(POOLINGS),
  imageSizePx: z.int(),
  specification: z.record(z.string(), z.json()),
});

const [workDir = '.', ...names] = process.argv.slice(2);
for (const name of names) {
  const folder = path.join(workDir, name);
  const use = useSchema.parse(JSON.parse(await readFile(path.join(folder, 'use.json'), 'utf8')));
  const { imageSizePx, pooling } = use;
  const contract = { ...COMPAT_CONTRACT, imageSizePx, pooling, embeddingLayer: 'norm' };
  const pixels = await readFile(path.join(workDir, `images-${imageSizePx}.u8`));
  for (const [source, fileName] of [
    ['safetensors', 'plain.safetensors'],
    ['pickle', 'plain.pt'],
  ] as const) {
    await using file = await open(path.join(folder, fileName));
    const read = await readEncoderFile(file.fd, {
      fileName,
      expectedSha256: null,
      expectedByteSize: null,
      encoder: null,
      network: null,
      keyPrefix: null,
      specification: use.specification,
      inputContract: inputContractSchema.parse(contract),
    });
    const { tensors } = readSafetensors(read.bytes);
    const encoder = openEncoder(read.architecture, tensors, pooling);
    const { channelMean, channelStd } = COMPAT_CONTRACT;
    const embeddings = embedPixels(encoder, pixels, IMAGE_COUNT, imageSizePx, { channelMean, channelStd });
    await writeFile(path.join(folder, `engine-${source}-${imageSizePx}.f32`), embeddings);
    encoder.dispose();
    if (source === 'safetensors') continue;
    await writeFile(path.join(folder, 'weights.safetensors'), read.bytes);
    const exported: EncoderExport = {
      architecture: read.architecture,
      tensors,
      inputContract: contract,
      metadata: {},
    };
    await writeFile(path.join(folder, 'encoder.pt'), writeExport('PYTORCH', exported));
    await writeFile(path.join(folder, 'encoder.onnx'), writeExport('ONNX', exported));
    const byTfjs = await embedByTfjs(
      writeExport('TFJS', exported),
      normalisedPixels(pixels, COMPAT_CONTRACT),
      IMAGE_COUNT,
      imageSizePx,
    );
    await writeFile(path.join(folder, `tfjs-node-${imageSizePx}.f32`), byTfjs);
  }
}
