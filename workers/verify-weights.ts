/**
 * Verifies a downloaded checkpoint: loads it into the engine and compares its golden embedding with the recorded one.
 *
 * node workers/verify-weights.ts <file.safetensors> <encoder> <imageSizePx> < golden.json
 *
 * Golden JSON: { images: base64 uint8 [n, S, S, 3], embeddings: [[D numbers] x n] }. Prints { maxAbsoluteDifference,
 * maxRelativeDifference }.
 */
import { readFile } from 'node:fs/promises';
import { text } from 'node:stream/consumers';
import { z } from 'zod';
import { encoderWeights } from '../src/formats/encoder-file.ts';
import { embedPixels, HALF_NORMALISATION } from './engine/embed.ts';
import { architectureNamed, describeEncoder, NAMED_ENCODERS, usualPooling } from '../src/formats/encoders/index.ts';
import { openEncoder } from './engine/encoders/index.ts';

const [file = '', encoderName, sizeText] = process.argv.slice(2);
const architecture = architectureNamed(z.enum(NAMED_ENCODERS).parse(encoderName));
const imageSizePx = z.coerce.number().int().parse(sizeText);
const golden = z
  .object({ images: z.string(), embeddings: z.array(z.array(z.number())) })
  .parse(JSON.parse(await text(process.stdin)));

const pooling = usualPooling(describeEncoder(architecture));
const encoder = openEncoder(architecture, encoderWeights(await readFile(file)), pooling);
const embeddings = embedPixels(
  encoder,
  new Uint8Array(Buffer.from(golden.images, 'base64')),
  golden.embeddings.length,
  imageSizePx,
  HALF_NORMALISATION,
);
const expected = golden.embeddings.flat();
const scale = Math.max(...expected.map(Math.abs));
const differences = expected.map((value, index) => Math.abs(value - (embeddings[index] ?? Number.NaN)));
const maxAbsoluteDifference = differences.reduce(
  (largest, difference) => (difference > largest || Number.isNaN(difference) ? difference : largest),
  0,
);
process.stdout.write(
  `${JSON.stringify({ maxAbsoluteDifference, maxRelativeDifference: maxAbsoluteDifference / scale })}\n`,
);
