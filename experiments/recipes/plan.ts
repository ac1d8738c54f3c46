/** The cells of the experiment: a base, and one change at a time. */
import { createHash } from 'node:crypto';
import type { DataName } from './images.ts';
import { BASE_RECIPE, isEngineRecipe, PAPER_RECIPE, type Recipe } from './recipe.ts';

export type Trainer = 'ENGINE' | 'PYTORCH' | 'COLOUR';

export interface Cell {
  readonly data: DataName;
  readonly recipe: Recipe;
  readonly seed: number;
  readonly trainer: Trainer;
}

/** One row of a table of the report. */
export interface Variant {
  /** The setting that is changed, for example `temperature`. */
  readonly factor: string;
  /** Its new value, for example `0.1`. */
  readonly value: string;
  readonly recipe: Recipe;
}

export const SEEDS = [1, 2, 3] as const;

type Change = readonly [factor: string, value: string, change: Partial<Recipe>];

const lars = (learningRate: number): Partial<Recipe> => ({
  optimizer: { name: 'LARS' },
  learningRate,
  weightDecay: 1e-6,
  warmupShare: 0.1,
});

/** From the most to the least influential setting, so that a short budget measures the most important ones. */
const CHANGES: readonly Change[] = [
  ['view', '64 px, 0.2 to 1 of the area', { viewSizePx: 64, cropScaleMin: 0.2, cropScaleMax: 1 }],
  ['view', '32 px, 0.2 to 1 of the area', { cropScaleMin: 0.2, cropScaleMax: 1 }],
  ['jitter strength', '1', { jitterStrength: 1 }],
  ['jitter strength and grey', '0.5 and 0.2', { jitterStrength: 0.5, greyProbability: 0.2 }],
  ['temperature', '0.5', { temperature: 0.5 }],
  ['temperature', '0.1', { temperature: 0.1 }],
  ['optimizer', 'LARS 0.15 (0.3 x batch / 256)', lars(0.15)],
  ['optimizer', 'LARS 0.85 (0.075 x sqrt(batch))', lars(0.85)],
  ['optimizer', 'AdamW 3e-3', { learningRate: 3e-3 }],
  ['optimizer', 'AdamW 3e-4', { learningRate: 3e-4 }],
  ['batch size', '64', { batchSize: 64 }],
  ['batch size', '256', { batchSize: 256 }],
  ['grey', '0.2', { greyProbability: 0.2 }],
  ['precision', 'float32', { precision: 'FLOAT32' }],
  ['size shown to the probe', '32 px, as large as the views', { evaluationSizePx: 32 }],
  ['size shown to the probe', '96 px', { evaluationSizePx: 96 }],
  ['length', 'double', { imagesSeen: BASE_RECIPE.imagesSeen * 2 }],
  ['length', 'half', { imagesSeen: BASE_RECIPE.imagesSeen / 2 }],
  ['smallest crop', '0.08', { cropScaleMin: 0.08 }],
  ['smallest crop', '0.2', { cropScaleMin: 0.2 }],
  ['largest crop', '0.7', { cropScaleMax: 0.7 }],
  ['jitter strength', '0', { jitterStrength: 0 }],
  ['optimizer', 'LARS 0.3', lars(0.3)],
  ['optimizer', 'LARS 2', lars(2)],
  ['optimizer', 'LARS 4', lars(4)],
  ['optimizer', 'SGD 0.03', { optimizer: { name: 'SGD' }, learningRate: 0.03 }],
  ['optimizer', 'SGD 0.1', { optimizer: { name: 'SGD' }, learningRate: 0.1 }],
  ['optimizer', 'Adam 1e-3', { optimizer: { name: 'ADAM' }, weightDecay: 0 }],
  ['batch-norm statistics at inference', 'recalibrated', { batchNorm: 'RECALIBRATED' }],
  ['blur', '0', { blurProbability: 0 }],
  ['source size', '64 px', { sourceSizePx: 64 }],
  ['warm-up', '0', { warmupShare: 0 }],
  ['warm-up', '20 %', { warmupShare: 0.2 }],
  ['weight decay', '0', { weightDecay: 0 }],
  ['weight decay', '0.05', { weightDecay: 0.05 }],
  ['temperature', '1', { temperature: 1 }],
  ['batch size', '512', { batchSize: 512 }],
  ['projection', '32 numbers', { projectionDim: 32 }],
  ['projection', '512 numbers', { projectionDim: 512 }],
  ['head (in PyTorch)', '1 layer', { headDepth: 1 }],
  ['head (in PyTorch)', '3 layers', { headDepth: 3 }],
  ['head (in PyTorch)', '2,048 wide', { headWidth: 2048 }],
];

/** Cells without training, with which every table is compared. */
export function controlRecipe(recipe: Recipe): Recipe {
  return { ...BASE_RECIPE, imagesSeen: 0, evaluationSizePx: recipe.evaluationSizePx };
}

export function variants(): Variant[] {
  return [
    { factor: 'base', value: 'base', recipe: BASE_RECIPE },
    { factor: 'base', value: 'the recipe of the paper', recipe: PAPER_RECIPE },
    ...CHANGES.map(([factor, value, change]) => ({ factor, value, recipe: { ...BASE_RECIPE, ...change } })),
  ];
}

/** The controls, then every variant under the first seed, then under the second, and so on. */
export function ablationCells(data: DataName): Cell[] {
  const cells: Cell[] = [{ data, recipe: controlRecipe(BASE_RECIPE), seed: 1, trainer: 'COLOUR' }];
  for (const seed of SEEDS) {
    for (const { recipe } of variants()) {
      cells.push({ data, recipe: controlRecipe(recipe), seed, trainer: 'ENGINE' });
      cells.push({ data, recipe, seed, trainer: isEngineRecipe(recipe) ? 'ENGINE' : 'PYTORCH' });
    }
  }
  return unique(cells);
}

/** The same recipes by our engine and by PyTorch: two recipes on two sets. */
export function parityCells(data: DataName): Cell[] {
  return unique(
    SEEDS.flatMap((seed) =>
      [BASE_RECIPE, PAPER_RECIPE].flatMap((recipe) =>
        (['ENGINE', 'PYTORCH'] as const).flatMap((trainer) => [
          { data, recipe: controlRecipe(recipe), seed, trainer },
          { data, recipe, seed, trainer },
        ]),
      ),
    ),
  );
}

/** The key of a cell in the file of results: the same cell is measured once, even if several plans contain it. */
export function cellKey({ data, recipe, seed, trainer }: Cell): string {
  const sorted = Object.entries(recipe).sort(([left], [right]) => left.localeCompare(right));
  return createHash('sha256')
    .update(JSON.stringify([data, sorted, seed, trainer]))
    .digest('hex')
    .slice(0, 16);
}

function unique(cells: readonly Cell[]): Cell[] {
  return [...new Map(cells.map((cell) => [cellKey(cell), cell])).values()];
}
