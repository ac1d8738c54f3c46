/** The tables of docs/experiments/recipes.md. */
import type { MetricEstimate } from '../../src/statistics/estimate.ts';
import type { MeasuredBar } from './bars.ts';
import type { DataName, PixelSet, ProbeSet } from './images.ts';
import { cellKey, controlRecipe, SEEDS, variants, type Trainer } from './plan.ts';
import { BASE_RECIPE, isEngineRecipe, PAPER_RECIPE, type Recipe } from './recipe.ts';
import type { Measured } from './results.ts';
import { verdictsOf } from './verdicts.ts';
import { differenceOf, scoreOf, testedOf, type Predictions } from './statistics.ts';

/** The part on which recipes are chosen; the test part is used only once, after the choice. */
const TEST_SET = 'pcam-mini test';

export function reportOf(
  results: readonly Measured[],
  sets: readonly PixelSet[],
  bars: readonly MeasuredBar[],
  machine: string,
): string {
  const parts = sets.map((set) => reportOfSet(results, set));
  return `# Which recipe learns

<!-- Written by npm run experiment:recipes; edit experiments/recipes/report.ts. -->

ResNet-18, SimCLR. Every row changes one setting of the base recipe. All rows see the same number of images, unless that number is the change.
Base recipe: images of ${BASE_RECIPE.evaluationSizePx} px, views of ${BASE_RECIPE.viewSizePx} px, ${BASE_RECIPE.imagesSeen.toLocaleString('en')} images, batch ${BASE_RECIPE.batchSize}, AdamW at ${BASE_RECIPE.learningRate}, weight decay ${BASE_RECIPE.weightDecay},
temperature ${BASE_RECIPE.temperature}, ${BASE_RECIPE.cropScaleMin} to ${BASE_RECIPE.cropScaleMax} of the area, jitter ${BASE_RECIPE.jitterStrength}, grey ${BASE_RECIPE.greyProbability}, ${BASE_RECIPE.precision.toLowerCase()}. The score is the macro-F1 of a linear
probe on frozen embeddings, the mean over the seeds that were measured, with 95 % bootstrap intervals over groups (over images where
groups are unknown; those intervals are too narrow). "Against random" and "against the base" are paired differences over the seeds that were
measured for both. A row with fewer than ${SEEDS.length} seeds is preliminary, not a result. All cells are in [cells.json](recipes/cells.json).
Images per second were measured while the machine did other work, and are not meaningful.

\`npm run experiment:recipes -- --minutes 60\` continues where the last run stopped. ${machine}
${parts.join('\n')}
${barTables(bars)}`;
}

function barTables(bars: readonly MeasuredBar[]): string {
  if (bars.length === 0) return '';
  const rows = bars.flatMap(({ data, seed, minutes, steps, imageSizePx, tests }) =>
    Object.entries(tests).map(
      ([test, { macroF1, againstRandom, againstColour }]) =>
        `| ${data} | ${minutes} | ${seed} | ${steps} | ${imageSizePx} | ${test} | ${shown(macroF1)} | ${signed(againstRandom)} | ${signed(againstColour)} |`,
    ),
  );
  return `
## The defaults, through the product

\`paraffin pretrain --budget\` with nothing else named, then linear probes, in a registry of their own
(\`npm run experiment:recipes -- --bars\`).

| bar | | |
| --- | --- | --- |
${verdictsOf(bars)
  .map(({ bar, verdict, figures }) => `| ${bar} | ${verdict} | ${figures} |`)
  .join('\n')}

| trained on | minutes | seed | steps | px | tested on | macro-F1 | against random | against colour statistics |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |
${rows.join('\n')}
`;
}

function reportOfSet(results: readonly Measured[], set: PixelSet): string {
  const own = results.filter(({ data }) => data === set.name);
  return set.probes
    .filter(({ name }) => name !== TEST_SET)
    .map(
      (probe) => `\n## ${probe.name}\n\n${ablationTable(own, set.name, probe)}\n${parityTable(own, set.name, probe)}`,
    )
    .join('\n');
}

function ablationTable(results: readonly Measured[], data: DataName, probe: ProbeSet): string {
  const tested = testedOf(probe);
  const predictionsOf = (recipe: Recipe, trainer: Trainer, seeds: readonly number[] = SEEDS): Predictions =>
    predictionsBy(results, data, recipe, trainer, probe.name, seeds);
  const rows: string[] = [];
  const colour = predictionsOf(controlRecipe(BASE_RECIPE), 'COLOUR', [1]);
  if (colour.length > 0) rows.push(`| control | colour statistics | 1 | ${shown(scoreOf(tested, colour))} |  |  |  |`);
  const random = predictionsOf(controlRecipe(BASE_RECIPE), 'ENGINE');
  if (random.length > 0)
    rows.push(`| control | random encoder | ${random.length} | ${shown(scoreOf(tested, random))} |  |  |  |`);
  for (const { factor, value, recipe } of variants()) {
    const trainer = isEngineRecipe(recipe) ? 'ENGINE' : 'PYTORCH';
    const seeds = SEEDS.filter((seed) => predictionsOf(recipe, trainer, [seed]).length > 0);
    if (seeds.length === 0) continue;
    const predictions = predictionsOf(recipe, trainer, seeds);
    const paired = (other: Recipe, otherTrainer: Trainer): string => {
      const both = seeds.filter((seed) => predictionsOf(other, otherTrainer, [seed]).length > 0);
      if (both.length === 0) return '';
      return signed(
        differenceOf(tested, predictionsOf(recipe, trainer, both), predictionsOf(other, otherTrainer, both)),
      );
    };
    const loss = mean(lossesOf(results, data, recipe, trainer, seeds));
    rows.push(
      `| ${factor} | ${value} | ${seeds.length} | ${shown(scoreOf(tested, predictions))} | ${paired(controlRecipe(recipe), 'ENGINE')} | ${recipe === BASE_RECIPE ? '' : paired(BASE_RECIPE, 'ENGINE')} | ${loss} |`,
    );
  }
  if (rows.length === 0) return 'No cell is measured yet.';
  return [
    '| factor | value | seeds | macro-F1 | against random | against the base | last loss |',
    '| --- | --- | --- | --- | --- | --- | --- |',
    ...rows,
  ].join('\n');
}

function parityTable(results: readonly Measured[], data: DataName, probe: ProbeSet): string {
  const tested = testedOf(probe);
  const rows = [
    ['base', BASE_RECIPE],
    ['paper', PAPER_RECIPE],
  ].flatMap(([name, recipe]) => {
    if (typeof recipe !== 'object') return [];
    const seeds = SEEDS.filter((seed) =>
      (['ENGINE', 'PYTORCH'] as const).every(
        (trainer) => predictionsBy(results, data, recipe, trainer, probe.name, [seed]).length > 0,
      ),
    );
    if (seeds.length === 0) return [];
    const [ours, theirs] = (['ENGINE', 'PYTORCH'] as const).map((trainer) =>
      predictionsBy(results, data, recipe, trainer, probe.name, seeds),
    );
    if (ours === undefined || theirs === undefined) return [];
    return [
      `| ${String(name)} | ${seeds.length} | ${seedScores(tested, ours)} | ${seedScores(tested, theirs)} | ${signed(differenceOf(tested, ours, theirs))} |`,
    ];
  });
  if (rows.length === 0) return '';
  return `
The same recipe in PyTorch (\`experiments/recipes/peer/simclr_recipe.py\`), another implementation with views of the same distribution:

| recipe | seeds | Paraffin, by seed | PyTorch, by seed | difference of the means |
| --- | --- | --- | --- | --- |
${rows.join('\n')}
`;
}

function seedScores(tested: ReturnType<typeof testedOf>, predictionsOf: Predictions): string {
  return predictionsOf.map((digits) => scoreOf(tested, [digits]).value.toFixed(3)).join(', ');
}

function predictionsBy(
  results: readonly Measured[],
  data: DataName,
  recipe: Recipe,
  trainer: Trainer,
  probeName: string,
  seeds: readonly number[],
): Predictions {
  return seeds.flatMap((seed) => {
    const key = cellKey({ data, recipe, seed, trainer });
    return results.find((result) => result.key === key)?.predictions[probeName] ?? [];
  });
}

function lossesOf(
  results: readonly Measured[],
  data: DataName,
  recipe: Recipe,
  trainer: Trainer,
  seeds: readonly number[],
): number[] {
  return seeds.flatMap((seed) => {
    const key = cellKey({ data, recipe, seed, trainer });
    return results.find((result) => result.key === key)?.lastLoss ?? [];
  });
}

function mean(values: readonly number[]): string {
  return values.length === 0 ? '' : (values.reduce((sum, value) => sum + value, 0) / values.length).toFixed(2);
}

function shown({ value, ci95Low, ci95High }: MetricEstimate): string {
  return `${value.toFixed(3)} (${ci95Low.toFixed(3)} .. ${ci95High.toFixed(3)})`;
}

function signed({ value, ci95Low, ci95High }: MetricEstimate): string {
  const plus = (number: number): string => `${number < 0 ? '' : '+'}${number.toFixed(3)}`;
  const text = `${plus(value)} (${plus(ci95Low)} .. ${plus(ci95High)})`;
  return ci95Low > 0 || ci95High < 0 ? `**${text}**` : text;
}
