/**
 * `npm run experiment:probe-choice`: what the linear probe of colour statistics scores on the labelled sets of
 * histology-mini if C is chosen by cross-entropy on the inner folds, and if it is chosen by macro F1.
 */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { installEngine } from '../src/cli/engine.ts';
import { writePixels, type ProbeSet } from './recipes/images.ts';

const HELP = `Usage: npm run experiment:probe-choice -- [options]

Prints a table of macro F1, four folds by group, mean over five seeds.

  --data DIR       the folder that holds histology-mini (default: ../shared/data)
  --help

Examples:
  npm run experiment:probe-choice
  npm run experiment:probe-choice -- --data /data
`;
const SIZE_PX = 64;
const FOLDS = 4;
const SEEDS = [1, 2, 3, 4, 5];
const PRECISION = { gradientTolerance: 1e-4 };

const { values } = parseArgs({
  options: {
    help: { type: 'boolean', default: false },
    data: { type: 'string', default: path.resolve(import.meta.dirname, '../../shared/data') },
  },
});
if (values.help) {
  process.stdout.write(HELP);
  process.exit(0);
}

await installEngine();
const { assignFolds } = await import('../workers/engine/probe/folds.ts');
const { colourStatistics, COLOUR_STATISTICS_DIM } = await import('../workers/engine/probe/colour-statistics.ts');
const { innerParts, innerScore, innerScores, isBetter } = await import('../workers/engine/probe/inner-choice.ts');
const { fitAndPredict, INVERSE_REGULARISATIONS } = await import('../workers/engine/probe/linear-probe.ts');

const folder = await mkdtemp(path.join(os.tmpdir(), 'paraffin-probe-choice-'));
try {
  const pixelsPath = path.join(folder, 'pixels.u8');
  const set = await writePixels('histology-mini', values.data, SIZE_PX, pixelsPath);
  const colour = colourStatistics(await readFile(pixelsPath), set.imageCount);
  process.stdout.write('| set | by cross-entropy | by macro F1 |\n| --- | --- | --- |\n');
  for (const probe of set.probes) {
    const scores: { readonly byCrossEntropy: number; readonly byMacroF1: number }[] = [];
    for (const seed of SEEDS) scores.push(await scoresOf(probe, colour, seed));
    const mean = (of: (each: (typeof scores)[number]) => number): string =>
      (scores.reduce((sum, each) => sum + of(each), 0) / scores.length).toFixed(3);
    process.stdout.write(
      `| ${probe.name} | ${mean((each) => each.byCrossEntropy)} | ${mean((each) => each.byMacroF1)} |\n`,
    );
  }
} finally {
  await rm(folder, { recursive: true, force: true });
}

/** Macro F1 of the pooled predictions of all folds, by either choice. */
async function scoresOf(probe: ProbeSet, colour: Float32Array, seed: number) {
  const { rows, groups, labelNames } = probe;
  const embeddings = new Float32Array(rows.length * COLOUR_STATISTICS_DIM);
  for (const [place, row] of rows.entries())
    embeddings.set(
      colour.subarray(row * COLOUR_STATISTICS_DIM, (row + 1) * COLOUR_STATISTICS_DIM),
      place * COLOUR_STATISTICS_DIM,
    );
  const embedded = { embeddings, embeddingDim: COLOUR_STATISTICS_DIM };
  const images = { labels: Int32Array.from(probe.labels), groups, labelNames };
  const pooled = {
    byCrossEntropy: pool(images.labels, labelNames.length),
    byMacroF1: pool(images.labels, labelNames.length),
  };
  const folds = assignFolds(images, FOLDS, seed);
  for (let fold = 0; fold < FOLDS; fold += 1) {
    const all = Int32Array.from(folds.keys());
    const train = all.filter((image) => folds[image] !== fold);
    const test = all.filter((image) => folds[image] === fold);
    const parts = innerParts(images, train, seed);
    if (parts === null) throw new Error(`The training part of fold ${fold} of ${probe.name} cannot be divided.`);
    const predict = (fitted: Int32Array, heldOut: Int32Array) =>
      fitAndPredict(embedded, images, fitted, heldOut, INVERSE_REGULARISATIONS, PRECISION).map(
        ({ testProbabilities }) => testProbabilities,
      );
    const scores = await innerScores(
      parts,
      images,
      ({ fitted, heldOut }) => predict(fitted, heldOut),
      () => Promise.resolve(),
    );
    const leastCrossEntropy = scores.reduce((best, score) => (score.crossEntropy < best.crossEntropy ? score : best));
    const highestMacroF1 = scores.reduce((best, score) => (isBetter(score, best) ? score : best));
    const tested = predict(train, test);
    pooled.byCrossEntropy.add(test, tested[scores.indexOf(leastCrossEntropy)]);
    pooled.byMacroF1.add(test, tested[scores.indexOf(highestMacroF1)]);
  }
  return { byCrossEntropy: pooled.byCrossEntropy.macroF1(), byMacroF1: pooled.byMacroF1.macroF1() };
}

/** Collects `[tested, K]` probabilities of every fold into `[N, K]`. */
function pool(labels: Int32Array, labelCount: number) {
  const probabilities = new Float64Array(labels.length * labelCount);
  return {
    add: (test: Int32Array, found: Float64Array | undefined): void => {
      if (found === undefined) throw new Error('No C was chosen.');
      for (const [row, image] of test.entries())
        probabilities.set(found.subarray(row * labelCount, (row + 1) * labelCount), image * labelCount);
    },
    macroF1: (): number => innerScore(labels, probabilities, labelCount).macroF1,
  };
}
