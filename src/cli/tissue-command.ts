/** `paraffin tissue`: draws SYNTHETIC images, for trying things out where there are no real ones. */
import path from 'node:path';
import { parseArgs } from 'node:util';
import { drawTissue } from './tissue.ts';

const HELP = `usage: npm run paraffin -- tissue --out FOLDER [--images 60] [--size 256] [--seed 1]

Draws tissue-like SYNTHETIC images, one subfolder for each label, and a labels.csv with groups. They are drawings: good
for trying Paraffin out, worth nothing as data.

example:
  npm run paraffin -- tissue --out .paraffin/imports/tissue --images 40
`;

export async function tissueCommand(args: string[]): Promise<number> {
  const { values } = parseArgs({
    args,
    options: { out: { type: 'string' }, images: { type: 'string', default: '60' }, size: { type: 'string', default: '256' }, seed: { type: 'string', default: '1' }, help: { type: 'boolean', short: 'h' } },
  });
  if (values.help === true || values.out === undefined) {
    process.stdout.write(HELP);
    return values.help === true ? 0 : 2;
  }
  const outDir = path.resolve(values.out);
  await drawTissue({ outDir, imagesPerLabel: Number(values.images), imageSizePx: Number(values.size), seed: Number(values.seed), groups: 10 });
  process.stdout.write(`Drawn into ${outDir}\n`);
  return 0;
}
