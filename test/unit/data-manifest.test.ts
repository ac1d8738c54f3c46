import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { ImageDataError } from '../../workers/engine/data/errors.ts';
import { parseManifest, splitUnitOf } from '../../workers/engine/data/manifest.ts';

const IMAGE = {
  key: 'a',
  sha256: 'ab'.repeat(32),
  label: 'tumour',
  group: null,
  split: null,
  width: 3,
  height: 4,
  shard: 0,
  byteSize: 9,
  sourcePath: 'slides/a.png',
};
const WHOLE = { x: null, y: null, sourceWidth: null, sourceHeight: null };
const PLACE = { x: 224, y: 0, sourceWidth: 1000, sourceHeight: 700 };
const lines = (...images: readonly object[]): string => images.map((image) => `${JSON.stringify(image)}\n`).join('');

describe('parseManifest', () => {
  test('reads lines in order', () => {
    const { group: _group, sourcePath: _sourcePath, ...older } = IMAGE;
    assert.deepEqual(parseManifest(lines(IMAGE, { ...older, key: 'b' }, { ...IMAGE, ...PLACE, key: 'c' })), [
      { ...IMAGE, ...WHOLE },
      { ...IMAGE, ...WHOLE, key: 'b', sourcePath: null },
      { ...IMAGE, ...PLACE, key: 'c' },
    ]);
    assert.deepEqual(parseManifest(''), []);
  });

  test('an older import wrote the path of its own file for an unknown group, which is not a group', () => {
    const [unknown, known] = parseManifest(
      lines({ ...IMAGE, group: IMAGE.sourcePath }, { ...IMAGE, key: 'b', group: 'patient 7' }),
    );
    assert.deepEqual([unknown?.group, known?.group], [null, 'patient 7']);
  });

  const refused: readonly [string, string, RegExp][] = [
    ['a line that is no JSON', `${lines(IMAGE)}{`, /Line 2 .* not a JSON object/],
    ['an array', '[]\n', /Line 1 .* not a JSON object/],
    ['an empty line', `\n${lines(IMAGE)}`, /Line 1 .* not a JSON object/],
    ['no key', lines({ ...IMAGE, key: '' }), /key must be a text/],
    ['a sha256 of another kind', lines({ ...IMAGE, sha256: 'AB' }), /sha256 must be 64 hex digits/],
    ['a label that is a number', lines({ ...IMAGE, label: 3 }), /label must be a text/],
    ['a negative shard', lines({ ...IMAGE, shard: -1 }), /shard must be an integer from 0/],
    ['a width that is not an integer', lines({ ...IMAGE, width: 2.5 }), /width must be an integer from 0/],
    ['a place that is not an integer', lines({ ...IMAGE, ...PLACE, y: -1 }), /y must be an integer from 0/],
    ['a key twice', lines(IMAGE, IMAGE), /Line 2 .* names a again/],
  ];
  for (const [what, text, words] of refused) {
    test(`refuses ${what}`, () => {
      assert.throws(
        () => parseManifest(text),
        (error) => error instanceof ImageDataError && words.test(error.message),
      );
    });
  }
});

test('a split keeps a group whole, and the patches of one file if its group is unknown', () => {
  assert.equal(splitUnitOf({ key: '7', group: 'patient 7', sourcePath: 'a.tif' }), 'patient 7');
  assert.equal(splitUnitOf({ key: '7', group: null, sourcePath: 'a.tif' }), 'a.tif');
  assert.equal(splitUnitOf({ key: '7', group: null, sourcePath: null }), '7');
});
