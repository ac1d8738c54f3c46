/** Slugs, codes, searches, orders, merged facts. */
import { describe, test } from 'node:test';
import assert from 'node:assert/strict';
import { DomainError } from '../../src/errors.ts';
import { resolutionsOf } from '../../src/modules/datasets/catalogue.rules.ts';
import { codeOf, orderOf, resolveCoded, searchOf, slugOf } from '../../src/modules/datasets/datasets.rules.ts';
import { changedFactFields, mergeFacts } from '../../src/modules/datasets/facts.rules.ts';
import { loadCatalogue } from '../../src/modules/datasets/index.ts';

describe('slugs and codes', () => {
  const slugs: readonly (readonly [string, RegExp])[] = [
    ['NCT-CRC-HE-100K', /^nct-crc-he-100k$/],
    ['  Köln & Münster (2024) ', /^koln-munster-2024$/],
    ['Straße Øre Łódź', /^strasse-ore-lodz$/],
    ['---', /^dataset-[0-9a-f]{8}$/],
    ['组织 42', /^42$/],
    ['组织', /^dataset-[0-9a-f]{8}$/],
    ['x'.repeat(79) + ' y', /^x{79}$/],
  ];
  for (const [name, slug] of slugs) test(`slug of ${name.slice(0, 20)}`, () => assert.match(slugOf(name), slug));

  test('the same name in another Unicode form gives the same slug', () =>
    assert.equal(slugOf('é组'.normalize('NFD')), slugOf('é组'.normalize('NFC'))));

  test('codes', () => {
    assert.deepEqual(['H&E', 'lymph node', 'Masson trichrome', 'PAS', 'head and neck'].map(codeOf), [
      'HE',
      'LYMPH_NODE',
      'MASSON_TRICHROME',
      'PAS',
      'HEAD_AND_NECK',
    ]);
  });

  test('organs by code or name in any case, each once', () => {
    const known = [
      { code: 'LYMPH_NODE', name: 'lymph node' },
      { code: 'COLON', name: 'colon' },
    ];
    assert.deepEqual(
      resolveCoded(['Lymph Node', 'lymph_node', 'COLON'], known, 'organ', 'f').map((organ) => organ.code),
      ['LYMPH_NODE', 'COLON'],
    );
  });
});

describe('a search', () => {
  test('for an empty text is no search', () =>
    assert.deepEqual(
      [searchOf({}), searchOf({ search: null }), searchOf({ search: '' })],
      [undefined, undefined, undefined],
    ));
  const typed: readonly (readonly [string, { before: string; prefix: string } | null])[] = [
    ['brea', { before: '', prefix: 'brea' }],
    ['breast can', { before: 'breast ', prefix: 'can' }],
    ['H&E', null],
    ['乳腺', { before: '', prefix: '乳腺' }],
    ['a', null],
    ['"breast can"', null],
    ['breast -can', null],
    ['breast or can', null],
    ['breast!', null],
    ['nct-crc-he-100k', { before: 'nct-crc-he-', prefix: '100k' }],
  ];
  for (const [search, expected] of typed)
    test(`may be unfinished: ${search}`, () => assert.deepEqual(searchOf({ search })?.typed, expected));
  test('matches slugs literally', () => assert.equal(searchOf({ search: 'A%b_c\\' })?.slugPattern, 'a\\%b\\_c\\\\%'));
});

describe('an order', () => {
  test('is by name, or by relevance when searching', () => {
    assert.deepEqual(orderOf(undefined, {}), { field: 'NAME', direction: 'ASC' });
    assert.deepEqual(orderOf(null, { search: 'x' }), { field: 'RELEVANCE', direction: 'DESC' });
    assert.deepEqual(orderOf({ field: 'IMAGE_COUNT' }, {}), { field: 'IMAGE_COUNT', direction: 'ASC' });
    assert.deepEqual(orderOf({ field: 'RELEVANCE', direction: null }, { search: 'x' }), {
      field: 'RELEVANCE',
      direction: 'DESC',
    });
  });
  test('by relevance needs a search', () => {
    assert.throws(
      () => orderOf({ field: 'RELEVANCE' }, {}),
      (error) => error instanceof DomainError && error.code === 'BAD_INPUT' && error.field === 'orderBy.field',
    );
  });
});

describe('resolutions', () => {
  const row = { magnification_kind: 'objective', microns_per_pixel: null, magnifications: null } as const;
  const only = (
    magnification: number | null,
    micronsPerPixel: number | null,
    totalMagnification: number | null = null,
  ) => ({ magnification, totalMagnification, micronsPerPixel });
  test('of nothing', () => assert.deepEqual(resolutionsOf(row), []));
  test('one magnification and one resolution are a pair', () =>
    assert.deepEqual(resolutionsOf({ ...row, magnifications: [20], microns_per_pixel: [0.5] }), [only(20, 0.5)]));
  test('two magnifications and two resolutions are not paired by guessing', () => {
    assert.deepEqual(resolutionsOf({ ...row, magnifications: [20, 40], microns_per_pixel: [0.5, 0.25] }), [
      only(20, null),
      only(40, null),
      only(null, 0.5),
      only(null, 0.25),
    ]);
  });
  test('total magnifications keep the objective unknown unless it is stated', () => {
    assert.deepEqual(resolutionsOf({ ...row, magnifications: [100, 400], magnification_kind: 'total' }), [
      only(null, null, 100),
      only(null, null, 400),
    ]);
    assert.deepEqual(
      resolutionsOf({
        ...row,
        magnifications: [100],
        magnification_kind: 'total',
        objective_magnifications: [10],
        microns_per_pixel: [1],
      }),
      [only(10, 1, 100)],
    );
  });
});

test('merged facts: given values change, null deletes a value, and the others stay', async () => {
  const [bach] = (await loadCatalogue()).filter((dataset) => dataset.slug === 'bach');
  assert.ok(bach !== undefined);
  const merged = mergeFacts(bach, { imageCount: null, name: 'New', notes: undefined });
  assert.deepEqual(
    [merged.imageCount, merged.name, merged.notes, merged.slideCount],
    [null, 'New', bach.notes, bach.slideCount],
  );
  assert.deepEqual(changedFactFields(bach, merged), ['imageCount']);
  const { citation } = bach;
  assert.ok(citation !== null);
  const { authors, title, venue, doi, arxiv } = citation;
  assert.deepEqual(
    changedFactFields(
      bach,
      mergeFacts(bach, { citation: { arxiv, doi, venue, title, authors }, organs: [...bach.organs] }),
    ),
    [],
  );
  assert.deepEqual(changedFactFields(bach, mergeFacts(bach, { resolutions: [], citation: null })), [
    'resolutions.magnification',
    'resolutions.micronsPerPixel',
    'citation',
  ]);
});
