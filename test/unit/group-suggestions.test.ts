/** Which folder levels and CSV columns an import suggests as patients or slides. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { suggestGroupColumns, suggestGroupLevels } from '../../workers/imaging/group-suggestions.ts';

/** The folders of these files. */
function holdersOf(files: readonly string[]): { path: string; fileCount: number }[] {
  const parents = Map.groupBy(files, (file) => file.slice(0, Math.max(0, file.lastIndexOf('/'))));
  return Array.from(parents, ([path, within]) => ({ path, fileCount: within.length }));
}

describe('folder levels', () => {
  const files = ['train', 'test'].flatMap((split) =>
    ['benign', 'malignant'].flatMap((label) =>
      ['p1', 'p2', 'p3'].flatMap((patient) => [1, 2].map((image) => `set/${split}/${label}/${patient}/${image}.png`)),
    ),
  );

  test('those below the label, and neither the label, the split nor the only folder of an archive', () => {
    assert.deepEqual(suggestGroupLevels(holdersOf(files), 3), [
      { groupLevel: 4, csvColumn: null, groupCount: 3, examples: ['p1', 'p2', 'p3'] },
    ]);
  });

  test('without labels every level whose folders differ', () => {
    assert.deepEqual(
      suggestGroupLevels(holdersOf(files), null).map(({ groupLevel }) => groupLevel),
      [3, 4],
    );
  });

  test('none where every image has a folder of its own, or no folder', () => {
    assert.deepEqual(suggestGroupLevels(holdersOf(['a/1/x.png', 'a/2/x.png', 'b/3/x.png', 'b/4/x.png']), 1), []);
    assert.deepEqual(suggestGroupLevels(holdersOf(['x.png', 'y.png']), null), []);
  });

  test('at most five names of many are examples', () => {
    const many = Array.from({ length: 40 }, (_, index) => `a/patient ${index >> 1}/${index}.png`);
    const [found] = suggestGroupLevels(holdersOf(many), 1);
    assert.deepEqual([found?.groupCount, found?.examples.length], [20, 5]);
  });
});

describe('columns of a CSV', () => {
  const header = ['path', 'grade', 'scanner', 'case no.', 'note', 'uuid', 'empty'];
  const rows = Array.from({ length: 12 }, (_, row) => [
    ...[`${row}.png`, row % 2 === 0 ? 'low' : 'high', row % 2 === 0 ? 'A' : 'B', `K-${row >> 1}`],
    ...[row === 3 ? 'blurred' : '', `u${row}`, 'NA'],
  ]);

  test('that have no role and repeat their values, first those with the most', () => {
    assert.deepEqual(
      suggestGroupColumns(header, rows, new Set([0, 1, null])).map(({ csvColumn, groupCount }) => [
        csvColumn,
        groupCount,
      ]),
      [
        ['case no.', 6],
        ['scanner', 2],
      ],
    );
  });

  test('none if there are no other columns', () => {
    assert.deepEqual(suggestGroupColumns(['path', ' '], [['a.png', 'x']], new Set([0])), []);
  });
});
