/** The board that a person sees first. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { boardOf } from '../../web/src/pages/leaderboard/choice.ts';

const VERSIONS = [{ id: 'a' }, { id: 'b' }];
const newest = { protocol: 'KNN', datasetVersion: { id: 'b' } } as const;

test('is the one on which something happened last, until somebody chooses', () => {
  assert.deepEqual(boardOf(VERSIONS, {}, newest), { version: { id: 'b' }, protocol: 'KNN' });
  assert.deepEqual(boardOf(VERSIONS, { protocol: 'LINEAR_PROBE' }, newest), {
    version: { id: 'b' },
    protocol: 'LINEAR_PROBE',
  });
  assert.deepEqual(boardOf(VERSIONS, { version: 'a' }, newest), { version: { id: 'a' }, protocol: 'LINEAR_PROBE' });
});

test('is the first one where nothing has happened, or on a version that is listed no more', () => {
  assert.deepEqual(boardOf(VERSIONS, {}, undefined), { version: { id: 'a' }, protocol: 'LINEAR_PROBE' });
  assert.deepEqual(boardOf(VERSIONS, {}, { protocol: 'KNN', datasetVersion: { id: 'old' } }), {
    version: { id: 'a' },
    protocol: 'LINEAR_PROBE',
  });
  assert.equal(boardOf([], {}, newest), undefined);
});
