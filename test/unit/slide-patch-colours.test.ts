/** The colours of the patches on the page of a slide: what each means, and that nobody needs to tell hues apart. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  coloursOfNames,
  coloursOfNumbers,
  scaleColour,
  type PatchColours,
} from '../../web/src/pages/slides/patch-colours.ts';

const WORDS = { name: 'label', none: 'without a label' };
const NUMBER_WORDS = { title: 'score of tumour', none: 'not tested' };

/** The colour of each patch; every patch is in one group. */
function coloursByPatch({ groups }: PatchColours, patchCount: number): string[] {
  const found = Array.from<string>({ length: patchCount });
  let drawn = 0;
  for (const { colour, patches } of groups)
    for (const patch of patches) {
      found[patch] = colour;
      drawn += 1;
    }
  assert.equal(drawn, patchCount);
  return found;
}

/** Relative luminance of WCAG 2: 0 is black, 1 is white. */
function luminanceOf(colour: string): number {
  const [red = 0, green = 0, blue = 0] = (colour.match(/\d+/g) ?? []).map((channel) => {
    const share = Number(channel) / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

describe('labels', () => {
  test('have one colour each, the same on every slide of a version', () => {
    const all = ['benign', 'stroma', 'tumour'];
    const first = coloursOfNames({ names: ['tumour', 'benign'], places: [0, 1, null, 0] }, all, WORDS);
    const second = coloursOfNames({ names: ['stroma', 'tumour'], places: [1, 0] }, all, WORDS);
    const [tumour, benign, none] = coloursByPatch(first, 4);
    const [tumourAgain, stroma] = coloursByPatch(second, 2);
    assert.equal(tumourAgain, tumour);
    assert.equal(new Set([tumour, benign, none, stroma]).size, 4);
    assert.equal(coloursByPatch(first, 4)[3], tumour);
    assert.equal(first.isFilled, false);
  });

  test('are named and counted in the legend, patches without one last', () => {
    const { legend, describe: factOf } = coloursOfNames(
      { names: ['b', 'a'], places: [null, 0, 1, 0] },
      ['a', 'b'],
      WORDS,
    );
    assert.ok(legend.kind === 'NAMES');
    assert.deepEqual(
      legend.entries.map(({ name, patchCount }) => [name, patchCount]),
      [
        ['b', 2],
        ['a', 1],
        ['without a label', 1],
      ],
    );
    assert.deepEqual([factOf(0), factOf(2), factOf(9)], ['without a label', 'label a', 'without a label']);
  });

  test('of any number have colours of their own', () => {
    const names = Array.from({ length: 40 }, (_, index) => `class ${index}`);
    const colours = coloursByPatch(coloursOfNames({ names, places: names.map((_, place) => place) }, names, WORDS), 40);
    assert.equal(new Set(colours).size, 40);
  });
});

describe('numbers', () => {
  test('are lighter the larger they are, so that the scale is read without telling hues apart', () => {
    let before = -1;
    for (let step = 0; step <= 20; step += 1) {
      const luminance = luminanceOf(scaleColour(step / 20));
      assert.ok(luminance > before + 0.005, `${step}: ${luminance} after ${before}`);
      before = luminance;
    }
    assert.ok(before > 0.7);
    assert.equal(scaleColour(-3), scaleColour(0));
    assert.equal(scaleColour(1.5), scaleColour(1));
  });

  test('are placed on the given scale, and patches without one are told apart', () => {
    const coloured = coloursOfNumbers([0, 0.5, 1, null], { low: 0, high: 1 }, NUMBER_WORDS);
    const [low, middle, high, none] = coloursByPatch(coloured, 4);
    assert.deepEqual([low, middle, high], [scaleColour(0), scaleColour(0.5), scaleColour(1)]);
    assert.ok(![low, middle, high].includes(none));
    assert.deepEqual(coloured.legend, { kind: 'SCALE', title: 'score of tumour', low: 0, high: 1, otherCount: 1 });
    assert.deepEqual([coloured.describe(1), coloured.describe(3)], ['score of tumour 0.5', 'not tested']);
    assert.equal(coloured.isFilled, true);
  });

  test('stretch the scale where it is not given, also if they are all equal or none', () => {
    const stretched = coloursOfNumbers([0.8, 0.9], { high: 1 }, NUMBER_WORDS);
    assert.deepEqual(coloursByPatch(stretched, 2), [scaleColour(0), scaleColour(0.5)]);
    assert.ok(stretched.legend.kind === 'SCALE' && stretched.legend.low === 0.8);
    assert.deepEqual(coloursByPatch(coloursOfNumbers([3, 3], {}, NUMBER_WORDS), 2), [scaleColour(1), scaleColour(1)]);
    assert.deepEqual(coloursOfNumbers([null], {}, NUMBER_WORDS).legend, {
      ...{ kind: 'SCALE', title: 'score of tumour', low: 0, high: 1, otherCount: 1 },
    });
  });
});
