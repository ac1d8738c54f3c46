/** Lists of datasets: filters, search, order, pages and facets, over the 57 seeded datasets. */
import { after, before, describe, test } from 'node:test';
import assert from 'node:assert/strict';
import { encodeCursor } from '../../src/platform/page.ts';
import { openTestDatabase, type TestDatabase } from '../support/database.ts';
import { at, catalogueApi, listAt, READER, type CatalogueApi } from '../support/catalogue.ts';

let database: TestDatabase;
let api: CatalogueApi;

before(async () => {
  database = await openTestDatabase();
  api = catalogueApi(database);
});
after(() => database.close());

const LIST = `query ($first: Int, $after: String, $filter: DatasetFilter, $orderBy: DatasetOrder) {
  datasets(first: $first, after: $after, filter: $filter, orderBy: $orderBy) {
    nodes { slug name imageCount publishedYear imageKind licence provenance organs { code } stains { code } tasks resolutions { magnification micronsPerPixel } }
    edges { cursor } pageInfo { hasNextPage hasPreviousPage endCursor } totalCount } }`;

async function slugsOf(filter: object, orderBy?: object): Promise<unknown[]> {
  return listAt(await api.ask(LIST, { first: 200, filter, orderBy }), 'datasets.nodes').map((node) => at(node, 'slug'));
}

async function nodesOf(filter: object): Promise<unknown[]> {
  const data = await api.ask(LIST, { first: 200, filter });
  const nodes = listAt(data, 'datasets.nodes');
  assert.equal(at(data, 'datasets.totalCount'), nodes.length);
  return nodes;
}

async function errorOf(variables: object): Promise<unknown> {
  const result = await api.execute(LIST, { ...variables });
  const original = result.errors?.[0]?.originalError ?? result.errors?.[0];
  return { code: at(original, 'code'), field: at(original, 'field') };
}

describe('filters', () => {
  test('answer the question of a lab tool: breast, H&E, 0.5 um/px or finer', async () => {
    const nodes = await nodesOf({ organs: ['BREAST'], stains: ['H&E'], micronsPerPixel: { max: 0.5 } });
    assert.ok(nodes.length >= 5);
    for (const node of nodes) {
      assert.ok(listAt(node, 'organs').some((organ) => at(organ, 'code') === 'BREAST'));
      assert.ok(listAt(node, 'stains').some((stain) => at(stain, 'code') === 'HE'));
      assert.ok(listAt(node, 'resolutions').some((each) => Number(at(each, 'micronsPerPixel') ?? Infinity) <= 0.5));
    }
  });

  test('can each be used alone', async () => {
    assert.equal((await nodesOf({ organs: ['lymph node', 'COLON'] })).length, 24);
    assert.equal((await nodesOf({ stains: ['IHC'] })).length, 8);
    assert.equal((await nodesOf({ imageKinds: ['TMA'] })).length, 3);
    assert.equal((await nodesOf({ tasks: ['SURVIVAL', 'REGISTRATION'] })).length, 3);
    assert.equal((await nodesOf({ licences: ['CC0-1.0'] })).length, 3);
    assert.equal((await nodesOf({ licences: ['UNKNOWN', 'CC0-1.0'] })).length, 34);
    assert.equal((await nodesOf({ provenances: ['PAPER_TABLE'] })).length, 1);
    assert.equal((await nodesOf({ hasVersions: true })).length, 0);
    assert.equal((await nodesOf({ hasVersions: false, synthetic: false })).length, 57);
    assert.equal((await nodesOf({ synthetic: true })).length, 0);
    assert.equal((await nodesOf({ organs: [], magnification: {} })).length, 57);
  });

  test('a magnification is the objective: 40x total is not 40x', async () => {
    const fourX = (await nodesOf({ magnification: { max: 4 } })).map((node) => at(node, 'slug'));
    assert.deepEqual(fourX.sort(), ['breakhis', 'her2-contest']);
    assert.equal((await nodesOf({ magnification: { min: 100 } })).length, 0);
    assert.ok((await slugsOf({ magnification: { min: 40, max: 40 } })).includes('breakhis'));
    assert.ok(!(await slugsOf({ magnification: { min: 1 } })).includes('oscc'));
  });
});

describe('search', () => {
  test('finds by words, stems, unfinished words, codes and slugs', async () => {
    assert.equal((await slugsOf({ search: 'BreakHis' }))[0], 'breakhis');
    assert.ok((await slugsOf({ search: 'brea' })).includes('breakhis'));
    assert.ok((await slugsOf({ search: 'breast mitos' })).includes('tupac16'));
    assert.ok((await slugsOf({ search: 'segmenting nuclei' })).includes('janowczyk-nuclei'));
    assert.deepEqual(await slugsOf({ search: 'nct-crc-he-1' }), ['nct-crc-he-100k']);
    assert.ok((await slugsOf({ search: 'nct-crc-he-100k' })).includes('nct-crc-he-100k'));
    assert.ok((await slugsOf({ search: 'HER2' })).includes('herohe'));
    assert.ok((await slugsOf({ search: 'Spanhol' })).includes('breakhis'));
    assert.deepEqual(await slugsOf({ search: 'zzzqqq' }), []);
  });

  test('understands phrases, or, and minus', async () => {
    const all = await slugsOf({ search: 'nuclei' });
    const without = await slugsOf({ search: 'nuclei -segmentation' });
    assert.ok(without.length < all.length);
    assert.ok((await slugsOf({ search: 'PANDA or GlaS' })).includes('glas'));
    assert.ok((await slugsOf({ search: '"isolated tumor cells"' })).includes('camelyon17'));
  });

  test('accepts any text without an error', async () => {
    for (const search of [
      "'",
      '"',
      '\\',
      '%',
      '_',
      '&|!():*<->',
      '- - -',
      'a:*',
      "'; DROP TABLE x; --",
      '乳腺',
      '🧬',
      'or',
      '-',
      'the',
      'NOT',
      'x'.repeat(200),
    ]) {
      const nodes = await slugsOf({ search });
      assert.ok(nodes.length <= 57, search);
    }
    assert.equal((await slugsOf({ search: '  ' })).length, 57);
  });

  test('puts the best match first', async () => {
    const slugs = await slugsOf({ search: 'camelyon' });
    assert.ok(['camelyon16', 'camelyon17'].includes(String(slugs[0])), String(slugs));
    assert.ok(slugs.includes('patchcamelyon'));
  });
});

describe('order and pages', () => {
  const orders = ['NAME', 'IMAGE_COUNT', 'PUBLISHED_YEAR', 'CREATED_AT'].flatMap((field) =>
    ['ASC', 'DESC'].map((direction) => ({ field, direction })),
  );
  for (const orderBy of [...orders, { field: 'RELEVANCE', direction: 'DESC' }]) {
    test(`every dataset once, in pages of 7, by ${orderBy.field} ${orderBy.direction}`, async () => {
      const filter = orderBy.field === 'RELEVANCE' ? { search: 'breast or colon or lung' } : {};
      const whole = await slugsOf(filter, orderBy);
      const paged: unknown[] = [];
      let after: unknown = null;
      do {
        const data = await api.ask(LIST, { first: 7, after, filter, orderBy });
        paged.push(...listAt(data, 'datasets.nodes').map((node) => at(node, 'slug')));
        assert.equal(at(data, 'datasets.pageInfo.hasPreviousPage'), after !== null);
        assert.equal(at(data, 'datasets.pageInfo.endCursor'), at(listAt(data, 'datasets.edges').at(-1), 'cursor'));
        after = at(data, 'datasets.pageInfo.hasNextPage') === true ? at(data, 'datasets.pageInfo.endCursor') : null;
      } while (after !== null);
      assert.deepEqual(paged, whole);
      assert.equal(new Set(paged).size, paged.length);
      if (orderBy.field !== 'RELEVANCE') assert.equal(paged.length, 57);
    });
  }

  test('unknown values come last, in either direction', async () => {
    for (const direction of ['ASC', 'DESC']) {
      const data = await api.ask(LIST, { first: 200, orderBy: { field: 'IMAGE_COUNT', direction } });
      const counts = listAt(data, 'datasets.nodes').map((node) => at(node, 'imageCount'));
      const firstNull = counts.indexOf(null);
      assert.ok(firstNull > 0 && counts.slice(firstNull).every((count) => count === null));
      const numbers = counts.slice(0, firstNull).map(Number);
      assert.deepEqual(
        numbers,
        [...numbers].sort((a, b) => (direction === 'ASC' ? a - b : b - a)),
      );
    }
  });

  test('a row added while paging neither duplicates nor drops another', async () => {
    const first = await api.ask(LIST, { first: 10 });
    await api.ask(
      'mutation { createDataset(input: { name: "AAA first of all", slug: "aaa" }) { userErrors { message } } }',
    );
    const second = await api.ask(LIST, { first: 10, after: at(first, 'datasets.pageInfo.endCursor') });
    const whole = (await slugsOf({})).slice(1);
    assert.deepEqual(
      [...listAt(first, 'datasets.nodes'), ...listAt(second, 'datasets.nodes')].map((node) => at(node, 'slug')),
      whole.slice(0, 20),
    );
    await database.db.dataset.delete({ where: { slug: 'aaa' } });
  });
});

describe('bad requests', () => {
  const id = '0190a1b2-0000-7000-8000-000000000000';
  const invalid = { code: 'CURSOR_INVALID', field: 'after' };
  const cases: readonly (readonly [string, object, object])[] = [
    ['first of 0', { first: 0 }, { code: 'BAD_INPUT', field: 'first' }],
    ['first of 201', { first: 201 }, { code: 'BAD_INPUT', field: 'first' }],
    ['a negative first', { first: -1 }, { code: 'BAD_INPUT', field: 'first' }],
    ['a cursor that is not a cursor', { after: 'nonsense' }, invalid],
    ['an empty cursor', { after: '' }, invalid],
    ['a cursor of another list', { after: encodeCursor([id]) }, invalid],
    [
      'a cursor of another order',
      { after: encodeCursor(['NAME ASC', 'bach', id]), orderBy: { field: 'IMAGE_COUNT' } },
      invalid,
    ],
    [
      'a cursor of another direction',
      { after: encodeCursor(['NAME ASC', 'bach', id]), orderBy: { field: 'NAME', direction: 'DESC' } },
      invalid,
    ],
    ['a forged cursor: id', { after: encodeCursor(['NAME ASC', 'bach', 'not-an-id']) }, invalid],
    ['a forged cursor: name', { after: encodeCursor(['NAME ASC', 'a\0b', id]) }, invalid],
    ['a forged cursor: null name', { after: encodeCursor(['NAME ASC', null, id]) }, invalid],
    [
      'a forged cursor: count',
      { after: encodeCursor(['IMAGE_COUNT ASC', 1e30, id]), orderBy: { field: 'IMAGE_COUNT' } },
      invalid,
    ],
    [
      'a forged cursor: instant',
      { after: encodeCursor(['CREATED_AT ASC', 'yesterday', id]), orderBy: { field: 'CREATED_AT' } },
      invalid,
    ],
    [
      'a cursor of another search',
      { after: encodeCursor(['RELEVANCE DESC colon', 0.5, id]), filter: { search: 'breast' } },
      invalid,
    ],
    ['relevance without a search', { orderBy: { field: 'RELEVANCE' } }, { code: 'BAD_INPUT', field: 'orderBy.field' }],
    ['an unknown organ', { filter: { organs: ['BREAST', 'ELBOW'] } }, { code: 'BAD_INPUT', field: 'filter.organs.1' }],
    ['an unknown stain', { filter: { stains: ['INK'] } }, { code: 'BAD_INPUT', field: 'filter.stains.0' }],
    ['an empty organ', { filter: { organs: [''] } }, { code: 'BAD_INPUT', field: 'filter.organs.0' }],
    [
      'a range upside down',
      { filter: { magnification: { min: 40, max: 20 } } },
      { code: 'BAD_INPUT', field: 'filter.magnification.min' },
    ],
    [
      'a range below zero',
      { filter: { micronsPerPixel: { min: -1 } } },
      { code: 'BAD_INPUT', field: 'filter.micronsPerPixel.min' },
    ],
    ['a search with a NUL', { filter: { search: 'a\0b' } }, { code: 'BAD_INPUT', field: 'filter.search' }],
    ['a search too long', { filter: { search: 'x'.repeat(201) } }, { code: 'BAD_INPUT', field: 'filter.search' }],
  ];
  for (const [name, variables, expected] of cases) {
    test(name, async () => assert.deepEqual(await errorOf(variables), expected));
  }

  test('an unknown enum value or field never reaches the service', async () => {
    for (const filter of [{ imageKinds: ['SLIDE'] }, { tasks: ['GUESSING'] }, { colour: 'red' }]) {
      const result = await api.execute(LIST, { filter });
      assert.equal(result.data, undefined);
      assert.equal(result.errors?.length, 1);
    }
  });

  test('the hint of an unknown organ lists the known ones', async () => {
    const result = await api.execute(LIST, { filter: { organs: ['ELBOW'] } });
    assert.match(String(at(result.errors?.[0]?.originalError, 'hint')), /BREAST.*LYMPH_NODE/);
  });
});

describe('one dataset', () => {
  test('by id and by slug', async () => {
    const bySlug = await api.ask('{ dataset(slug: "bach") { id name } }');
    assert.deepEqual(
      await api.ask('query ($id: ID) { dataset(id: $id) { id name } }', { id: at(bySlug, 'dataset.id') }),
      bySlug,
    );
  });

  test('is null if it does not exist', async () => {
    for (const variables of [
      { id: 'no-uuid' },
      { id: '0190a1b2-0000-7000-8000-000000000000' },
      { slug: 'no-such' },
      { slug: '' },
      { slug: 'a\0b' },
      { id: "' OR 1=1" },
    ]) {
      assert.deepEqual(
        await api.ask('query ($id: ID, $slug: String) { dataset(id: $id, slug: $slug) { id } }', variables),
        { dataset: null },
      );
    }
  });

  test('is requested by either id or slug', async () => {
    for (const args of ['', '(id: "x", slug: "bach")']) {
      const result = await api.execute(`{ dataset${args} { id } }`);
      assert.equal(at(result.errors?.[0]?.originalError, 'code'), 'BAD_INPUT');
    }
  });

  test('is refused without a key if reading needs one', async () => {
    const stranger = { kind: 'ANONYMOUS', mayRead: false } as const;
    for (const query of [
      '{ datasets { totalCount } }',
      '{ dataset(slug: "bach") { id } }',
      '{ datasetFacets { datasetCount } }',
      '{ organs { code } }',
      '{ stains { code } }',
    ]) {
      const result = await api.execute(query, {}, stranger);
      assert.equal(at(result.errors?.[0]?.originalError, 'code'), 'UNAUTHENTICATED', query);
      assert.deepEqual((await api.execute(query, {}, READER)).errors, undefined);
    }
  });
});

describe('facets', () => {
  const FACETS = `query ($filter: DatasetFilter) { datasetFacets(filter: $filter) { datasetCount organs { value name count } stains { value count } imageKinds { value count }
    tasks { value count } licences { value name count } provenances { value count } magnifications { value name count } micronsPerPixelBounds { value name count } } }`;
  const countIn = (data: unknown, facet: string, value: string): unknown =>
    at(
      listAt(data, `datasetFacets.${facet}`).find((each) => at(each, 'value') === value),
      'count',
    );

  test('count the whole catalogue', async () => {
    const data = await api.ask(FACETS);
    assert.equal(at(data, 'datasetFacets.datasetCount'), 57);
    assert.deepEqual(listAt(data, 'datasetFacets.organs')[0], { value: 'BREAST', name: 'breast', count: 25 });
    assert.equal(countIn(data, 'stains', 'HE'), 55);
    assert.equal(countIn(data, 'imageKinds', 'PATCH'), 21);
    assert.equal(countIn(data, 'tasks', 'CLASSIFICATION'), 39);
    assert.equal(countIn(data, 'licences', 'UNKNOWN'), 31);
    assert.equal(countIn(data, 'provenances', 'CANDIDATE'), 40);
    assert.equal(countIn(data, 'magnifications', '40'), 32);
  });

  test("each count equals the number of results of filtering by its value, without the facet's own filter", async () => {
    const filter = { organs: ['BREAST'], tasks: ['CLASSIFICATION'], search: 'cancer or tumor' };
    const data = await api.ask(FACETS, { filter });
    assert.equal(at(data, 'datasetFacets.datasetCount'), (await nodesOf(filter)).length);
    for (const [facet, part] of [
      ['organs', 'organs'],
      ['stains', 'stains'],
      ['imageKinds', 'imageKinds'],
      ['tasks', 'tasks'],
      ['licences', 'licences'],
      ['provenances', 'provenances'],
    ] as const) {
      const counts = listAt(data, `datasetFacets.${facet}`);
      assert.ok(counts.length > 0, facet);
      for (const each of counts) {
        assert.equal(
          (await nodesOf({ ...filter, [part]: [at(each, 'value')] })).length,
          at(each, 'count'),
          `${facet} ${String(at(each, 'value'))}`,
        );
      }
    }
    for (const each of listAt(data, 'datasetFacets.magnifications')) {
      const value = Number(at(each, 'value'));
      assert.equal((await nodesOf({ ...filter, magnification: { min: value, max: value } })).length, at(each, 'count'));
    }
    for (const each of listAt(data, 'datasetFacets.micronsPerPixelBounds')) {
      assert.equal(
        (await nodesOf({ ...filter, micronsPerPixel: { max: Number(at(each, 'value')) } })).length,
        at(each, 'count'),
        String(at(each, 'name')),
      );
    }
    assert.ok(listAt(data, 'datasetFacets.organs').length > 1);
  });

  test('bounds of um/px count finer datasets, without their own filter', async () => {
    const bounds = async (filter: object) =>
      listAt(await api.ask(FACETS, { filter }), 'datasetFacets.micronsPerPixelBounds').map((each) => [
        at(each, 'value'),
        at(each, 'count'),
      ]);
    const all = await bounds({});
    assert.deepEqual(
      all.map(([value]) => value),
      ['0.25', '0.5', '1', '2', '4'],
    );
    assert.ok(
      all.every(([, count], index) => index === 0 || Number(count) >= Number(all[index - 1]?.[1])),
      'a coarser bound holds what a finer one holds',
    );
    assert.deepEqual(await bounds({ micronsPerPixel: { max: 0.25 } }), all);
    assert.equal(
      at(await api.ask(FACETS, { filter: { micronsPerPixel: { max: 0.25 } } }), 'datasetFacets.datasetCount'),
      all[0]?.[1],
    );
  });

  test('are empty for an empty result', async () => {
    const data = await api.ask(FACETS, { filter: { search: 'zzzqqq' } });
    assert.equal(at(data, 'datasetFacets.datasetCount'), 0);
    assert.deepEqual(at(data, 'datasetFacets.organs'), []);
  });
});
