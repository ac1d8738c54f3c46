import assert from 'node:assert/strict';
import { test } from 'node:test';
import { splitUnitOf } from '../../workers/engine/data/manifest.ts';

test('a split keeps a group whole, and the patches of one file if its group is unknown', () => {
  assert.equal(splitUnitOf({ key: '7', group: 'patient 7', sourcePath: 'a.tif' }), 'patient 7');
  assert.equal(splitUnitOf({ key: '7', group: null, sourcePath: 'a.tif' }), 'a.tif');
  assert.equal(splitUnitOf({ key: '7', group: null, sourcePath: null }), '7');
});
