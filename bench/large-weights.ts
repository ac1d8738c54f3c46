/**
 * Peak memory and time of an import, and of an embedding, of large vision transformers with random weights: each in a
 * process of its own.
 *
 *   npm run bench:large-weights -- [--networks VIT_L16,VIT_G14] [--dtypes F32,BF16] [--dir DIR]
 *
 * Prints JSON. The files, up to 4.6 GB each, and what an import stores of them are made below DIR and deleted again.
 */
import { closeSync, openSync, writeSync } from 'node:fs';
import { mkdtemp, rm, stat } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { z } from 'zod';
import { run } from '../compat/process.ts';
import { describeEncoder, type Architecture } from '../src/formats/encoders/index.ts';
import { VIT_PRESETS } from '../src/formats/encoders/vit/presets.ts';
import { layOutSafetensors } from '../src/formats/safetensors.ts';
import { readEncoderFile } from '../src/modules/models/encoder-file.ts';
import { inputContractSchema } from '../src/protocol/checkpoint.ts';
import { createRandom } from '../src/statistics/random.ts';
import { openEncoder } from '../workers/engine/encoders/index.ts';
import { ENGINE_PROCESS_ENV } from '../workers/engine/process-env.ts';
import { goldenOf } from '../workers/tasks/golden.ts';
import { withWeightsOf } from '../workers/tasks/stored-weights.ts';

const ARCHITECTURES = {
  VIT_L16: { ...VIT_PRESETS.VIT_B16, width: 1024, depth: 24, headCount: 16, mlpWidth: 4096 },
  /** DINOv2's giant network, without registers. */
  VIT_G14: {
    ...VIT_PRESETS.VIT_B16,
    ...{ patchSizePx: 14, gridSize: 16, width: 1536, depth: 40, headCount: 24 },
    ...{ mlp: 'SWIGLU', mlpWidth: 4096, hasLayerScale: true },
  },
} as const;
const networkSchema = z.enum(['VIT_L16', 'VIT_G14']);
const dtypeSchema = z.enum(['F32', 'F16', 'BF16']);
const architectureOf = (network: z.infer<typeof networkSchema>): Architecture => ({
  family: 'VIT',
  specification: ARCHITECTURES[network],
});
const CONTRACT = inputContractSchema.parse({
  imageSizePx: 224,
  resizeRule: 'SHORT_SIDE_THEN_CENTRE_CROP',
  channelOrder: 'RGB',
  valueRange: [0, 1],
  channelMean: [0.5, 0.5, 0.5],
  channelStd: [0.5, 0.5, 0.5],
  embeddingLayer: 'norm',
  pooling: 'CLS',
  micronsPerPixelMin: null,
  micronsPerPixelMax: null,
});
/** Values are drawn once and repeated: drawing a billion would take longer than everything else. */
const DRAWN_COUNT = 4 * 1024 * 1024;
const TIMEOUT_MS = 3_600_000;
const measurementSchema = z.object({ peakBytes: z.number(), durationMs: z.number() });

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    networks: { type: 'string', default: 'VIT_L16' },
    dtypes: { type: 'string', default: 'F32,BF16' },
    dir: { type: 'string', default: os.tmpdir() },
  },
});
const [role, network = '', file = '', out = ''] = positionals;
if (role === undefined) await main();
else {
  const startedMs = performance.now();
  if (role === 'import') await importWeights(file, out);
  else await embedGolden(architectureOf(networkSchema.parse(network)), file);
  const durationMs = Math.round(performance.now() - startedMs);
  console.log(JSON.stringify({ peakBytes: process.resourceUsage().maxRSS * 1024, durationMs }));
}

async function main(): Promise<void> {
  const folder = await mkdtemp(path.join(options.dir, 'paraffin-large-'));
  try {
    const results: object[] = [];
    for (const each of z.array(networkSchema).parse(options.networks.split(',')))
      for (const dtype of z.array(dtypeSchema).parse(options.dtypes.split(','))) {
        const [source, stored] = [path.join(folder, 'source'), path.join(folder, 'stored')];
        writeRandom(architectureOf(each), dtype, source);
        const { size } = await stat(source);
        const imported = await measured('import', each, source, stored);
        await rm(source);
        const embedded = await measured('embed', each, stored);
        await rm(stored);
        results.push({
          ...{ network: each, dtype, fileBytes: size },
          ...{ import: imported, importPeakPerFile: imported.peakBytes / size },
          ...{ embedding: embedded, embeddingPeakPerFile: embedded.peakBytes / size },
        });
      }
    console.log(JSON.stringify({ processor: os.cpus()[0]?.model, memoryBytes: os.totalmem(), results }, null, 2));
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function measured(...args: string[]): Promise<z.infer<typeof measurementSchema>> {
  const answer = await run({
    program: process.execPath,
    args: ['--disable-warning=ExperimentalWarning', import.meta.filename, ...args],
    env: ENGINE_PROCESS_ENV,
    timeoutMs: TIMEOUT_MS,
  });
  return measurementSchema.parse(JSON.parse(answer.trim().split('\n').at(-1) ?? ''));
}

/** Norms are the identity, and all else is small, so that embeddings are finite. */
function writeRandom(architecture: Architecture, dtype: z.infer<typeof dtypeSchema>, target: string): void {
  const { tensors } = describeEncoder(architecture);
  const { beginning, places } = layOutSafetensors(tensors.map(({ name, shape }) => ({ name, shape, dtype })));
  const random = createRandom(1);
  const small = bytesAs(
    dtype,
    Float32Array.from({ length: DRAWN_COUNT }, () => random.between(-0.03, 0.03)),
  );
  const one = bytesAs(dtype, new Float32Array(DRAWN_COUNT).fill(1));
  const fd = openSync(target, 'w');
  writeSync(fd, beginning);
  for (const { name } of tensors) {
    const { begin, end } = places.get(name) ?? { begin: 0, end: 0 };
    const values = /norm\d?\.weight$|gamma$/.test(name) ? one : small;
    for (let at = begin; at < end; at += values.length) writeSync(fd, values, 0, Math.min(values.length, end - at), at);
  }
  closeSync(fd);
}

function bytesAs(dtype: z.infer<typeof dtypeSchema>, values: Float32Array): Uint8Array {
  if (dtype === 'F32') return new Uint8Array(values.buffer);
  if (dtype === 'F16') return new Uint8Array(new Float16Array(values).buffer);
  return new Uint8Array(Uint16Array.from(new Uint32Array(values.buffer), (bits) => bits >>> 16).buffer);
}

async function importWeights(source: string, target: string): Promise<void> {
  const to = openSync(target, 'w');
  await readEncoderFile(
    [openSync(source, 'r')],
    {
      fileName: null,
      expectedSha256: null,
      expectedByteSize: null,
      encoder: null,
      network: null,
      keyPrefix: null,
      specification: null,
      inputContract: CONTRACT,
    },
    { begin: () => undefined, write: (bytes, position) => void writeSync(to, bytes, 0, bytes.length, position) },
  );
}

async function embedGolden(architecture: Architecture, stored: string): Promise<void> {
  await withWeightsOf(stored, (tensors) => {
    const encoder = openEncoder(architecture, tensors, CONTRACT.pooling);
    goldenOf(encoder, CONTRACT);
    encoder.dispose();
  });
}
