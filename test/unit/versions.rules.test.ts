/** What a version states about its groups, and which caveats its scores must have. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { caveatsOf } from '../../src/modules/datasets/index.ts';
import { ungroupedImageCountOf } from '../../src/modules/datasets/versions.rules.ts';
import type { ImportIssueRecord } from '../../src/modules/datasets/index.ts';

const issue = (kind: string, count: number, kept = true): ImportIssueRecord => ({
  ...{ kind, count, kept },
  ...{ meaning: `what ${kind} means`, examples: [], entries: null },
});

test('images without a group are counted by their issue', () => {
  const counts = { imageCount: 10, groupCount: 10 };
  assert.equal(ungroupedImageCountOf(counts, [issue('DUPLICATE', 3), issue('NO_GROUPS', 4)]), 4);
});

test('a version of before has none where its groups hold several images, and only such where each is its own', () => {
  assert.equal(ungroupedImageCountOf({ imageCount: 10, groupCount: 3 }, []), 0);
  assert.equal(ungroupedImageCountOf({ imageCount: 10, groupCount: 10 }, []), 10);
});

test('beside a score stand the issues that flatter it, in the version all the same, and nothing else', () => {
  const issues = [
    issue('UNREADABLE', 1, false),
    issue('NO_GROUPS', 4),
    issue('LABEL_CONFLICT', 2, false),
    issue('GROUP_ACROSS_SPLITS', 1),
    issue('NEARLY_BLANK', 1),
  ];
  assert.deepEqual(
    caveatsOf({ issues, ungroupedImageCount: 4 }).map(({ kind }) => kind),
    ['NO_GROUPS', 'GROUP_ACROSS_SPLITS'],
  );
  assert.deepEqual(
    caveatsOf({ issues: [issue('LABEL_CONFLICT', 2)], ungroupedImageCount: 0 }).map(({ kind }) => kind),
    ['LABEL_CONFLICT'],
  );
});

test('unknown groups stand beside a score on a version of before, too', () => {
  const [caveat] = caveatsOf({ issues: [], ungroupedImageCount: 10 });
  assert.deepEqual([caveat?.kind, caveat?.count], ['NO_GROUPS', 10]);
});
