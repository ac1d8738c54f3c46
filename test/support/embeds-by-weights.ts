/**
 * For tests of memory: embeds the golden image by a stored ViT-B/16 of another depth, as an evaluation embeds images,
 * and prints the peak of this process's memory in bytes.
 *
 *   node test/support/embeds-by-weights.ts DEPTH FILE
 */
import { VIT_PRESETS } from '../../src/formats/encoders/vit/presets.ts';
import { openEncoder } from '../../workers/engine/encoders/index.ts';
import { goldenOf } from '../../workers/tasks/golden.ts';
import { withWeightsOf } from '../../workers/tasks/stored-weights.ts';
import { INPUT_CONTRACT } from './checkpoints.ts';

const [depth, file = ''] = process.argv.slice(2);
const specification = { ...VIT_PRESETS.VIT_B16, depth: Number(depth) };
const encoder = await withWeightsOf(file, (tensors) => openEncoder({ family: 'VIT', specification }, tensors, 'CLS'));
goldenOf(encoder, { ...INPUT_CONTRACT, pooling: 'CLS', embeddingLayer: 'norm' });
process.stdout.write(String(process.resourceUsage().maxRSS * 1024));
