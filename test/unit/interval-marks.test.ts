/** Intervals on a terminal: which of them have a mark, and what is said about it. */
import assert from 'node:assert/strict';
import { stripVTControlCharacters } from 'node:util';
import { test } from 'node:test';
import { interval, intervalNotes, signedInterval, type GroupKnowledge } from '../../src/cli/client/output.ts';
import { formatGroups } from '../../src/cli/terminal.ts';

const KNOWN: GroupKnowledge = { groupsKnown: true, intervalCaveat: null };
const UNKNOWN: GroupKnowledge = { groupsKnown: false, intervalCaveat: 'The intervals are too narrow.' };
const NOT_RECORDED: GroupKnowledge = { groupsKnown: null, intervalCaveat: 'The intervals may be too narrow.' };
const ESTIMATE = { value: 0.5, ci95Low: -0.25, ci95High: 0.75 };

test('an interval over known groups has no mark, and one that is or may be too narrow refers to its note', () => {
  assert.equal(interval(ESTIMATE, KNOWN), '0.500 [-0.250, 0.750]');
  assert.equal(interval(ESTIMATE, UNKNOWN), '0.500 [-0.250, 0.750]*');
  assert.equal(interval(ESTIMATE, NOT_RECORDED), '0.500 [-0.250, 0.750]*');
  assert.equal(signedInterval(ESTIMATE, UNKNOWN), '+0.500 [-0.250, +0.750]*');
  assert.equal(interval({ ...ESTIMATE, ci95Low: null }, UNKNOWN), '0.500', 'without an interval nothing is too narrow');
  assert.deepEqual(intervalNotes([KNOWN, UNKNOWN, NOT_RECORDED, UNKNOWN]).map(stripVTControlCharacters), [
    '* The intervals are too narrow.',
    '* The intervals may be too narrow.',
  ]);
});

test('groups are stated as far as they are known', () => {
  const words = (groupCount: number, ungroupedImageCount: number | null): string =>
    formatGroups({ groupCount, ungroupedImageCount, imageCount: 40 });
  assert.equal(words(4, 0), '4 groups');
  assert.equal(words(0, 40), 'no known groups');
  assert.equal(words(4, 12), '4 groups and 12 images without one');
  assert.equal(words(40, null), 'groups not counted');
});
