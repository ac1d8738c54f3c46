/** Microns per pixel: where they are looked for, and what is refused. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  micronsPerPixelOf,
  objectiveOf,
  type ResolutionProperties,
} from '../../workers/imaging/slides/microns-per-pixel.ts';

function reasonOf(properties: ResolutionProperties, given: number | null = null): string {
  const found = micronsPerPixelOf(properties, given);
  assert.equal(found.outcome, 'REFUSED');
  return found.reason;
}

function foundIn(properties: ResolutionProperties, given: number | null = null) {
  const found = micronsPerPixelOf(properties, given);
  assert.equal(found.outcome, 'FOUND');
  return found;
}

describe('the chain', () => {
  const openslide = { 'openslide.mpp-x': '0.2523', 'openslide.mpp-y': '0.2521' };
  const aperio = { 'aperio.MPP': '0.499' };
  const tiff = { 'tiff.XResolution': '40000', 'tiff.YResolution': '40000', 'tiff.ResolutionUnit': 'centimeter' };

  test('the first link that states a value decides, and is named', () => {
    const all = { ...openslide, ...aperio, ...tiff };
    const cases = [
      [all, 0.5, 0.5, 'GIVEN', null],
      [all, null, 0.2523, 'OPENSLIDE', 'openslide.mpp-x'],
      [{ ...aperio, ...tiff }, null, 0.499, 'VENDOR', 'aperio.MPP'],
      [tiff, null, 0.25, 'TIFF_RESOLUTION', 'tiff.XResolution'],
    ] as const;
    for (const [properties, given, x, source, property] of cases) {
      const found = foundIn(properties, given);
      assert.deepEqual([found.x, found.source, found.property], [x, source, property]);
    }
    assert.equal(foundIn(openslide).y, 0.2521);
  });

  test('every vendor key is read, and a decimal comma', () => {
    assert.equal(foundIn({ 'mirax.LAYER_0_LEVEL_0_SECTION.MICROMETER_PER_PIXEL_X': '0,2325' }).x, 0.2325);
    assert.equal(foundIn({ 'ventana.ScanRes': '0.465' }).x, 0.465);
  });

  test('a TIFF resolution counts in inches too, and not without a unit', () => {
    const perInch = { 'tiff.XResolution': '50800', 'tiff.YResolution': '50800' };
    assert.equal(foundIn({ ...perInch, 'tiff.ResolutionUnit': 'inch' }).x, 0.5);
    assert.match(reasonOf({ ...perInch, 'tiff.ResolutionUnit': 'none' }), /does not state its microns per pixel/);
    assert.match(reasonOf(perInch), /column micronsPerPixel of the CSV/);
  });
});

describe('sense', () => {
  test('nanometres are recognised', () => {
    assert.match(
      reasonOf({ 'openslide.mpp-x': '250', 'openslide.mpp-y': '250' }),
      /250 um\/px.*nanometres.*Give 0\.25/,
    );
    assert.match(reasonOf({}, 250), /The given value states 250 um\/px, which looks like nanometres/);
  });

  test('the resolution of a screen is no resolution of a scanner', () => {
    const screen = { 'tiff.XResolution': '72', 'tiff.YResolution': '72', 'tiff.ResolutionUnit': 'inch' };
    assert.match(reasonOf(screen), /352\.8 um\/px, is that of a screen/);
  });

  test('0.05 to 20 is sense', () => {
    for (const x of ['0.05', '20']) assert.equal(foundIn({ 'openslide.mpp-x': x }).x, Number(x));
    assert.match(reasonOf({ 'openslide.mpp-x': '0.049' }), /outside 0\.05 to 20/);
    // As nanometres it would still be too coarse.
    assert.match(reasonOf({ 'openslide.mpp-x': '30000' }), /outside 0\.05 to 20/);
  });

  test('axes may differ by 2 %, not more', () => {
    assert.equal(foundIn({ 'openslide.mpp-x': '0.5', 'openslide.mpp-y': '0.509' }).y, 0.509);
    assert.match(
      reasonOf({ 'openslide.mpp-x': '0.5', 'openslide.mpp-y': '0.511' }),
      /0\.5 um\/px across and 0\.511 down/,
    );
  });

  test('a value of another order than the objective is refused, a doubtful one is noted, a given one stands', () => {
    const at20 = { 'aperio.AppMag': '20' };
    assert.equal(foundIn({ 'aperio.MPP': '0.5', ...at20 }).disagreesWithObjective, false);
    // A 20x lens with an adapter.
    assert.equal(foundIn({ 'openslide.mpp-x': '0.2325', ...at20 }).disagreesWithObjective, true);
    assert.match(reasonOf({ 'aperio.MPP': '5', ...at20 }), /states 5 um\/px, but the objective of 20x has about 0\.5/);
    assert.equal(foundIn(at20, 5).disagreesWithObjective, true);
  });

  test('what is not a positive number is not stated', () => {
    for (const text of ['', '0', '-0.5', 'NaN', 'unknown', 'Infinity'])
      assert.match(reasonOf({ 'openslide.mpp-x': text, 'aperio.MPP': text }), /does not state/);
    assert.equal(objectiveOf({ 'openslide.objective-power': 'x', 'aperio.AppMag': '40' }), 40);
  });
});
