/** The bookkeeping of `npm run experiment:recipes`: which cells are measured only once, and how they are compared. */
import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { ablationCells, cellKey, controlRecipe, parityCells, SEEDS, variants } from '../../experiments/recipes/plan.ts';
import { BASE_RECIPE, recipeSchema, stepsOf } from '../../experiments/recipes/recipe.ts';
import { findResult, readResults, writeResults } from '../../experiments/recipes/results.ts';
import { differenceOf, scoreOf, type TestSet } from '../../experiments/recipes/statistics.ts';

const tested: TestSet = {
  truth: Int32Array.of(0, 0, 0, 0, 1, 1, 1, 1),
  groups: ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'],
  labelNames: ['normal', 'tumour'],
};

test('every recipe of the plan is valid and changes something', () => {
  for (const { factor, value, recipe } of variants()) {
    assert.deepEqual(recipeSchema.parse(recipe), recipe, `${factor} ${value}`);
    if (factor !== 'base') assert.notDeepEqual(recipe, BASE_RECIPE, `${factor} ${value}`);
  }
});

test('a cell has one unique name, in whatever order its recipe is written', () => {
  const cells = ablationCells('pcam-mini');
  assert.equal(new Set(cells.map(cellKey)).size, cells.length);
  const [cell] = cells;
  assert.ok(cell !== undefined);
  const turned = recipeSchema.parse(Object.fromEntries(Object.entries(cell.recipe).reverse()));
  assert.equal(cellKey({ ...cell, recipe: turned }), cellKey(cell));
});

test('each seed of a variant comes after the untrained encoder that it is compared with', () => {
  const keys = ablationCells('pcam-mini').map(cellKey);
  for (const seed of SEEDS) {
    for (const { recipe } of variants()) {
      const control = { data: 'pcam-mini', recipe: controlRecipe(recipe), seed, trainer: 'ENGINE' } as const;
      const trainers = (['ENGINE', 'PYTORCH'] as const).map((trainer) =>
        keys.indexOf(cellKey({ ...control, recipe, trainer })),
      );
      const place = Math.max(...trainers);
      assert.ok(stepsOf(recipe) > 0 && place > 0 && keys.indexOf(cellKey(control)) < place);
    }
  }
});

test('PyTorch is asked for the same recipes under the same seeds as the engine', () => {
  const cells = parityCells('histology-mini');
  const of = (trainer: string): string[] =>
    cells.filter((cell) => cell.trainer === trainer).map((cell) => cellKey({ ...cell, trainer: 'ENGINE' }));
  assert.deepEqual(of('PYTORCH').sort(), of('ENGINE').sort());
  assert.ok(of('ENGINE').length >= 2 * SEEDS.length);
});

test('macro-F1 is the mean over seeds, and the difference of an arm from itself is 0', () => {
  const right = '00001111';
  const half = '00000000';
  // All are predicted to be normal: F1 of normal 2 x 4 / (4 + 8) = 2/3, of tumour 0, so 1/3; averaged with a perfect
  // seed, 2/3.
  assert.ok(Math.abs(scoreOf(tested, [right, half]).value - 2 / 3) < 1e-12);
  const difference = differenceOf(tested, [half], [half]);
  assert.deepEqual([difference.value, difference.ci95Low, difference.ci95High], [0, 0, 0]);
  assert.ok(differenceOf(tested, [right], [half]).ci95Low > 0);
});

test('measurements can be read back, and any other file is refused', async () => {
  const folder = await mkdtemp(path.join(os.tmpdir(), 'recipes-'));
  try {
    const file = path.join(folder, 'cells.json');
    assert.deepEqual(await readResults(file), []);
    const cell = { data: 'pcam-mini', recipe: BASE_RECIPE, seed: 2, trainer: 'ENGINE' } as const;
    const measured = {
      ...cell,
      key: cellKey(cell),
      lastLoss: 3.25,
      imagesPerSecond: 100,
      seconds: 60,
      predictions: { 'pcam-mini validation': '0101' },
    };
    await writeResults(file, [measured]);
    assert.deepEqual(findResult(await readResults(file), cell), measured);
    assert.equal(findResult(await readResults(file), { ...cell, seed: 3 }), undefined);
    await writeFile(file, '[{"key": "x"}]');
    await assert.rejects(readResults(file));
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});
