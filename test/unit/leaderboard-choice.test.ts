/** The leaderboard that a user sees. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { otherBoards, protocolOf, versionOf } from '../../web/src/pages/leaderboard/choice.ts';

const LATEST = ['a2', 'b1'];
const newest = { protocol: 'KNN', datasetVersion: { id: 'b1' } } as const;

test('is the one on which something happened last, until somebody chooses', () => {
  assert.equal(versionOf(LATEST, undefined, newest), 'b1');
  assert.equal(versionOf(LATEST, 'a2', newest), 'a2');
  assert.equal(protocolOf(undefined, newest), 'KNN');
  assert.equal(protocolOf('LINEAR_PROBE', newest), 'LINEAR_PROBE');
});

test('is of the very version that was named, also where a newer one is listed in its place', () => {
  assert.equal(versionOf(LATEST, 'a1', newest), 'a1');
  assert.equal(versionOf(LATEST, undefined, { protocol: 'KNN', datasetVersion: { id: 'a1' } }), 'a1');
});

test('is the first one where nothing has happened, and none where there is no version', () => {
  assert.equal(versionOf(LATEST, undefined, undefined), 'a2');
  assert.equal(protocolOf(undefined, undefined), 'LINEAR_PROBE');
  assert.equal(versionOf([], undefined, undefined), undefined);
});

test('says which other boards are not empty, each once', () => {
  const on = (id: string, protocol: 'KNN' | 'LINEAR_PROBE') => ({ protocol, datasetVersion: { id } });
  assert.deepEqual(
    otherBoards([on('a1', 'KNN'), on('a2', 'KNN'), on('a1', 'KNN'), on('a1', 'LINEAR_PROBE')], {
      versionId: 'a2',
      protocol: 'KNN',
    }),
    [on('a1', 'KNN'), on('a1', 'LINEAR_PROBE')],
  );
});
