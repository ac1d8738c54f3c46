/**
 * For tests of memory: reads a file of weights as an import does, writes what it would store, and prints the peak of
 * this process's memory in bytes.
 *
 *   node test/support/reads-weights.ts FILE OUT
 */
import { openSync, writeSync } from 'node:fs';
import { readEncoderFile } from '../../src/modules/models/encoder-file.ts';
import { INPUT_CONTRACT } from './checkpoints.ts';

const [file = '', out = ''] = process.argv.slice(2);
const target = openSync(out, 'w');
await readEncoderFile(
  [openSync(file, 'r')],
  {
    fileName: null,
    expectedSha256: null,
    expectedByteSize: null,
    encoder: null,
    network: null,
    keyPrefix: null,
    specification: null,
    inputContract: { ...INPUT_CONTRACT, pooling: 'CLS', embeddingLayer: 'norm' },
  },
  { begin: () => undefined, write: (bytes, position) => void writeSync(target, bytes, 0, bytes.length, position) },
);
process.stdout.write(String(process.resourceUsage().maxRSS * 1024));
