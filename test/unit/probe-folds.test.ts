import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { describe, test } from 'node:test';
import { ProbeError, type ProbeErrorCode } from '../../workers/engine/probe/errors.ts';
import { assignFolds, type LabelledImages } from '../../workers/engine/probe/folds.ts';
import { planSplit } from '../../workers/engine/probe/split.ts';
import { createRandom } from '../../workers/engine/rng.ts';

/** Images as pairs of label and group. */
function images(
  pairs: readonly (readonly [label: number, group: string])[],
  labelNames = ['normal', 'tumour', 'stroma'],
): LabelledImages {
  return { labels: Int32Array.from(pairs, ([label]) => label), groups: pairs.map(([, group]) => group), labelNames };
}

/** Groups of different sizes, each mostly of one label. */
function manyGroups(): LabelledImages {
  const random = createRandom(21);
  return images(
    Array.from({ length: 40 }, (_, group) =>
      Array.from(
        { length: 2 + random.integer(12) },
        () => [random.chance(0.8) ? group % 3 : random.integer(3), `slide ${group}`] as const,
      ),
    ).flat(),
  );
}

const isFault =
  (code: ProbeErrorCode, words: RegExp) =>
  (error: unknown): boolean =>
    error instanceof ProbeError && error.code === code && words.test(error.message);

describe('assignFolds', () => {
  const all = manyGroups();
  const folds = assignFolds(all, 5, 3);

  test('never splits a group', () => {
    const foldOfGroup = new Map<string, number>();
    for (const [image, group] of all.groups.entries()) {
      assert.equal(foldOfGroup.get(group) ?? folds[image], folds[image]);
      foldOfGroup.set(group, folds[image] ?? -1);
    }
  });

  test('balances the labels in every fold', () => {
    for (const label of [0, 1, 2]) {
      const total = all.labels.filter((own) => own === label).length;
      for (let fold = 0; fold < 5; fold += 1) {
        const count = all.labels.filter((own, image) => own === label && folds[image] === fold).length;
        assert.ok(
          Math.abs(count - total / 5) <= 0.25 * (total / 5),
          `label ${label} fold ${fold}: ${count} of ${total}`,
        );
      }
    }
  });

  test('the same seed gives the same folds, another seed others', () => {
    assert.deepEqual(assignFolds(all, 5, 3), folds);
    assert.notDeepEqual(assignFolds(all, 5, 4), folds);
  });

  test('images without a group are stratified exactly', () => {
    const single = images(Array.from({ length: 30 }, (_, image) => [image % 3, `image ${image}`] as const));
    const own = assignFolds(single, 5, 1);
    for (let fold = 0; fold < 5; fold += 1) {
      for (const label of [0, 1, 2])
        assert.equal(single.labels.filter((value, image) => value === label && own[image] === fold).length, 2);
    }
  });

  test('a label with only two groups is in every training part', () => {
    const rare = images([
      ...Array.from({ length: 20 }, (_, image) => [image % 2, `g${image}`] as const),
      [2, 'r1'],
      [2, 'r2'],
    ]);
    const own = assignFolds(rare, 5, 1);
    assert.notEqual(own[20], own[21]);
  });

  const refused: readonly [string, LabelledImages, number, ProbeErrorCode, RegExp][] = [
    [
      'one label',
      images([
        [1, 'a'],
        [1, 'b'],
        [1, 'c'],
      ]),
      2,
      'TOO_FEW_LABELS',
      /at least 2 labels, and there is 1/,
    ],
    ['no image', images([]), 2, 'TOO_FEW_LABELS', /there is 0/],
    [
      'fewer images than folds',
      images([
        [0, 'a'],
        [1, 'b'],
        [0, 'c'],
      ]),
      4,
      'TOO_FEW_IMAGES',
      /at least 4 images, and there are 3/,
    ],
    [
      'fewer groups than folds',
      images([
        [0, 'a'],
        [1, 'a'],
        [0, 'b'],
        [1, 'b'],
      ]),
      3,
      'TOO_FEW_GROUPS',
      /at least 3 groups, and there are 2/,
    ],
    [
      'a label within a single group',
      images([
        [0, 'a'],
        [0, 'b'],
        [1, 'c'],
        [1, 'c'],
      ]),
      2,
      'TOO_FEW_GROUPS',
      /label tumour are of one group/,
    ],
    [
      'one fold',
      images([
        [0, 'a'],
        [1, 'b'],
      ]),
      1,
      'BAD_OPTION',
      /2\.\.100/,
    ],
    [
      'half a fold',
      images([
        [0, 'a'],
        [1, 'b'],
      ]),
      2.5,
      'BAD_OPTION',
      /2\.\.100/,
    ],
    // a and b must be separated for label 0, b and c for 1, a and c for 2, which is impossible with two folds.
    [
      'labels that no division serves',
      images([
        [0, 'a'],
        [0, 'b'],
        [1, 'b'],
        [1, 'c'],
        [2, 'a'],
        [2, 'c'],
      ]),
      2,
      'TOO_FEW_GROUPS',
      /No division into 2 folds/,
    ],
  ];
  for (const [what, given, foldCount, code, words] of refused) {
    test(`refuses ${what}`, () => {
      assert.throws(() => assignFolds(given, foldCount, 1), isFault(code, words));
    });
  }
});

describe('planSplit', () => {
  const four = images([
    [0, 'a'],
    [1, 'b'],
    [0, 'c'],
    [1, 'd'],
    [0, 'e'],
  ]);

  test('draws folds that test every image once', () => {
    const all = manyGroups();
    const plan = planSplit(
      all,
      all.groups.map(() => null),
      5,
      3,
    );
    assert.equal(plan.kind, 'GROUPED_FOLDS');
    assert.equal(plan.groupCount, 40);
    assert.deepEqual(
      plan.parts.flatMap((part) => [...part.test]).sort((left, right) => left - right),
      [...all.labels.keys()],
    );
    for (const { train, test: tested } of plan.parts) {
      assert.equal(train.length + tested.length, all.labels.length);
      const learned = new Set(Array.from(train, (image) => all.groups[image]));
      assert.ok(tested.every((image) => !learned.has(all.groups[image])));
    }
  });

  test('the digest identifies the assignment', () => {
    const all = manyGroups();
    const digest = planSplit(all, undefined, 5, 3).digest;
    assert.match(digest, /^[0-9a-f]{64}$/);
    assert.equal(planSplit(all, undefined, 5, 3).digest, digest);
    assert.notEqual(planSplit(all, undefined, 5, 4).digest, digest);
    assert.notEqual(planSplit(all, undefined, 4, 3).digest, digest);
  });

  test('the digest is that of a line for each image', () => {
    const many = images(Array.from({ length: 6000 }, (_, image) => [image % 3, `patient ${image % 50}`] as const));
    const { digest, parts } = planSplit(many, undefined, 5, 3);
    const testedIn = new Map(parts.flatMap((part, index) => Array.from(part.test, (image) => [image, index] as const)));
    const lines = Array.from(many.labels, (label, image) =>
      JSON.stringify([testedIn.get(image), many.groups[image], many.labelNames[label]]),
    );
    assert.equal(digest, createHash('sha256').update(lines.join('\n')).digest('hex'));
  });

  test("follows the version's own split, and trains on validation too", () => {
    const plan = planSplit(four, ['train', 'validation', 'test', 'TEST', 'train'], 5, 1);
    assert.equal(plan.kind, 'GIVEN');
    assert.deepEqual(
      plan.parts.map(({ train, test: tested }) => [[...train], [...tested]]),
      [
        [
          [0, 1, 4],
          [2, 3],
        ],
      ],
    );
  });

  const refused: readonly [string, readonly (string | null)[], ProbeErrorCode, RegExp][] = [
    ['an unknown split', ['train', 'train', 'holdout', 'test', 'test'], 'SPLIT_INVALID', /"holdout" is unknown/],
    ['a split for some images only', ['train', null, 'test', 'test', 'train'], 'SPLIT_INVALID', /others do not/],
    ['no test images', ['train', 'train', 'val', 'val', 'train'], 'SPLIT_INVALID', /no test images/],
    ['no train images', ['test', 'test', 'test', 'test', 'test'], 'SPLIT_INVALID', /no train images/],
    [
      'test images of one label',
      ['train', 'train', 'test', 'train', 'test'],
      'TOO_FEW_LABELS',
      /test images .* one label/,
    ],
    [
      'train images of one label',
      ['train', 'test', 'test', 'test', 'train'],
      'TOO_FEW_LABELS',
      /train images .* one label/,
    ],
  ];
  for (const [what, splits, code, words] of refused) {
    test(`refuses ${what}`, () => {
      assert.throws(() => planSplit(four, splits, 5, 1), isFault(code, words));
    });
  }

  test('refuses a split that divides a group', () => {
    const shared = images([
      [0, 'a'],
      [1, 'a'],
      [0, 'b'],
      [1, 'b'],
      [0, 'b'],
    ]);
    assert.throws(
      () => planSplit(shared, ['train', 'test', 'train', 'train', 'test'], 5, 1),
      isFault('SPLIT_INVALID', /divides group a/),
    );
  });
});
