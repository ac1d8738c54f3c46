/** Which caveats the scores on a version must have. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { caveatsOf } from '../../src/modules/datasets/index.ts';
import type { ImportIssueRecord } from '../../src/modules/datasets/index.ts';

const issue = (kind: string, count: number, kept = true): ImportIssueRecord => ({
  ...{ kind, count, kept },
  ...{ meaning: `what ${kind} means`, examples: [], entries: null },
});

test('a score is shown with the issues that inflate it and are in the version, and with no others', () => {
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

test('unknown groups are shown with a score on an old version too', () => {
  const [caveat] = caveatsOf({ issues: [], ungroupedImageCount: 10 });
  assert.deepEqual([caveat?.kind, caveat?.count], ['NO_GROUPS', 10]);
});

test('a version whose groups were never counted has the caveats that its import found', () => {
  assert.deepEqual(
    caveatsOf({ issues: [issue('NO_GROUPS', 4)], ungroupedImageCount: null }).map(({ kind }) => kind),
    ['NO_GROUPS'],
  );
  assert.deepEqual(caveatsOf({ issues: [], ungroupedImageCount: null }), []);
});
