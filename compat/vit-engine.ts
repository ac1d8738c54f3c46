/**
 * Paraffin's side of the comparison of vision transformers: imports what timm saved, embeds, and writes the exports.
 *
 *   node compat/vit-engine.ts WORK_DIR NAME...
 *
 * For every `WORK_DIR/<name>/plain.pt` and `plain.safetensors` it writes `engine-pickle-<size>.f32` and
 * `engine-safetensors-<size>.f32`, what an import stores as `weights-<source>.safetensors`, and from the
 * pickle `encoder.pt`, `encoder.onnx` and `tfjs-node-<size>.f32`.
 */
import { closeSync, openSync, writeSync } from 'node:fs';
import { open, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';
import { POOLINGS } from '../src/formats/encoders/index.ts';
import type { EncoderExport, ExportInputContract } from '../src/formats/encoder-export.ts';
import { encoderWeights } from '../src/formats/encoder-file.ts';
import { writeExport } from '../src/formats/export-formats.ts';
import { readEncoderFile, type EncoderFile } from '../src/modules/models/encoder-file.ts';
import { openEncoder } from '../workers/engine/encoders/index.ts';
import { embedPixels } from '../workers/engine/embed.ts';
import { normalisedPixels } from '../workers/exports/check-images.ts';
import { embedByTfjs } from '../workers/exports/tfjs.ts';
import { withWeightsOf } from '../workers/tasks/stored-weights.ts';
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
    const stored = path.join(folder, `weights-${source}.safetensors`);
    const { architecture, weightsDtype } = await storedFrom(path.join(folder, fileName), stored, use, contract);
    await withWeightsOf(stored, (tensors) => {
      const encoder = openEncoder(architecture, tensors, pooling);
      const { channelMean, channelStd } = COMPAT_CONTRACT;
      const embeddings = embedPixels(encoder, pixels, IMAGE_COUNT, imageSizePx, { channelMean, channelStd });
      encoder.dispose();
      return writeFile(path.join(folder, `engine-${source}-${imageSizePx}.f32`), embeddings);
    });
    if (source === 'safetensors') continue;
    const exported: EncoderExport = {
      architecture,
      tensors: encoderWeights(await readFile(stored)),
      inputContract: { ...contract, weightsDtype },
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

/** What an import stores of the file, as a file. */
async function storedFrom(
  from: string,
  to: string,
  { specification }: z.infer<typeof useSchema>,
  contract: ExportInputContract,
): Promise<EncoderFile> {
  await using file = await open(from);
  const out = openSync(to, 'w');
  try {
    return await readEncoderFile(
      [file.fd],
      {
        fileName: path.basename(from),
        expectedSha256: null,
        expectedByteSize: null,
        encoder: null,
        network: null,
        keyPrefix: null,
        specification,
        inputContract: inputContractSchema.parse(contract),
      },
      { begin: () => undefined, write: (bytes, position) => void writeSync(out, bytes, 0, bytes.length, position) },
    );
  } finally {
    closeSync(out);
  }
}
