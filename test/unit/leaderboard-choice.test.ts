/** The leaderboard that a user sees. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { otherBoards, protocolOf, versionOf } from '../../web/src/pages/leaderboard/choice.ts';

const LATEST = ['a2', 'b1'];
const newest = { protocol: 'KNN', datasetVersion: { id: 'b1' } } as const;

test('is the board with the latest activity, until the user chooses another', () => {
  assert.equal(versionOf(LATEST, undefined, newest), 'b1');
  assert.equal(versionOf(LATEST, 'a2', newest), 'a2');
  assert.equal(protocolOf(undefined, newest), 'KNN');
  assert.equal(protocolOf('LINEAR_PROBE', newest), 'LINEAR_PROBE');
});

test('is that of the named version, even if a newer version is listed in its place', () => {
  assert.equal(versionOf(LATEST, 'a1', newest), 'a1');
  assert.equal(versionOf(LATEST, undefined, { protocol: 'KNN', datasetVersion: { id: 'a1' } }), 'a1');
});

test('is the first board without any activity, and none without versions', () => {
  assert.equal(versionOf(LATEST, undefined, undefined), 'a2');
  assert.equal(protocolOf(undefined, undefined), 'LINEAR_PROBE');
  assert.equal(versionOf([], undefined, undefined), undefined);
});

test('lists the other boards that are not empty, each once', () => {
  const on = (id: string, protocol: 'KNN' | 'LINEAR_PROBE') => ({ protocol, datasetVersion: { id } });
  assert.deepEqual(
    otherBoards([on('a1', 'KNN'), on('a2', 'KNN'), on('a1', 'KNN'), on('a1', 'LINEAR_PROBE')], {
      versionId: 'a2',
      protocol: 'KNN',
    }),
    [on('a1', 'KNN'), on('a1', 'LINEAR_PROBE')],
  );
});
