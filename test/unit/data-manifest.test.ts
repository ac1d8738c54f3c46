import assert from 'node:assert/strict';
import { test } from 'node:test';
import { imageList, imagesAt, imagesFrom, splitUnitOf } from '../../workers/engine/data/manifest.ts';

test('a split keeps a group whole, and the patches of one file if its group is unknown', () => {
  assert.equal(splitUnitOf({ key: '7', group: 'patient 7', sourcePath: 'a.tif' }), 'patient 7');
  assert.equal(splitUnitOf({ key: '7', group: null, sourcePath: 'a.tif' }), 'a.tif');
  assert.equal(splitUnitOf({ key: '7', group: null, sourcePath: null }), '7');
});

test('images are made when they are asked for, and some of them or those behind a place are a list too', () => {
  const made: number[] = [];
  const all = imageList(5, (place) => {
    made.push(place);
    const nothing = { label: null, group: null, split: null, sourcePath: null };
    return { key: `key ${place}`, shard: 0, indexInShard: place, ...nothing };
  });
  const picked = imagesAt(all, Int32Array.of(1, 3, 4));
  const behind = imagesFrom(picked, 1);
  assert.deepEqual([all.length, picked.length, behind.length, imagesFrom(all, 9).length], [5, 3, 2, 0]);
  assert.deepEqual(made, []);
  assert.deepEqual([picked.at(1)?.key, picked.at(3), all.at(5)], ['key 3', undefined, undefined]);
  assert.deepEqual(
    Array.from(behind, ({ key }) => key),
    ['key 3', 'key 4'],
  );
  assert.deepEqual(made, [3, 3, 4]);
});
