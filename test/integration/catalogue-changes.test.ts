/** Creating and changing datasets. */
import { after, before, describe, test } from 'node:test';
import assert from 'node:assert/strict';
import { openTestDatabase, type TestDatabase } from '../support/database.ts';
import { at, catalogueApi, listAt, READER, type CatalogueApi } from '../support/catalogue.ts';
import { keyHolder } from '../support/viewers.ts';

let database: TestDatabase;
let api: CatalogueApi;

before(async () => {
  database = await openTestDatabase();
  api = catalogueApi(database);
});
after(() => database.close());

const FIELDS = `id slug name description provenance synthetic imageKind imageCount slideCount imageSizeNote classNames tasks ihcMarkers licence publishedYear homepageUrl notes parentCollections
  organs { code } stains { code } resolutions { magnification totalMagnification micronsPerPixel } citation { authors title venue doi arxiv } factSources { field } editedAt`;
const CREATE = `mutation ($input: CreateDatasetInput!) { createDataset(input: $input) { dataset { ${FIELDS} } userErrors { code field message hint } } }`;
const UPDATE = `mutation ($input: UpdateDatasetInput!) { updateDataset(input: $input) { dataset { ${FIELDS} } userErrors { code field message hint } } }`;

async function create(input: object): Promise<unknown> {
  return at(await api.ask(CREATE, { input }), 'createDataset');
}
async function update(input: object): Promise<unknown> {
  return at(await api.ask(UPDATE, { input }), 'updateDataset');
}
function refused(payload: unknown, code: string, field: string): void {
  assert.equal(at(payload, 'dataset'), null);
  const [error] = listAt(payload, 'userErrors');
  assert.deepEqual({ code: at(error, 'code'), field: at(error, 'field') }, { code, field });
  assert.match(String(at(error, 'message')), /\.$/);
  assert.ok(String(at(error, 'hint')).length > 0);
}

describe('createDataset', () => {
  test('values that are not given are empty or null, in every field of the API', async () => {
    await create({ name: 'Nothing said' });
    const shown = await api.ask(
      '{ dataset(slug: "nothing-said") { paperRoles sourceUrls subcollections { slug } classNames ihcMarkers tasks parentCollections organs { code } factSources { field } description citation { doi } } }',
    );
    assert.deepEqual(at(shown, 'dataset'), {
      paperRoles: [],
      sourceUrls: [],
      subcollections: [],
      classNames: [],
      ihcMarkers: [],
      tasks: [],
      parentCollections: [],
      organs: [],
      factSources: [],
      description: null,
      citation: null,
    });
  });

  test('stores every given value', async () => {
    const input = {
      name: 'Köln Münster biopsies',
      description: 'Two\nlines.',
      organs: ['colon', 'LYMPH_NODE'],
      stains: ['h&e', 'PAS'],
      resolutions: [{ magnification: 20, micronsPerPixel: 0.5 }, { micronsPerPixel: 0.25 }],
      imageKind: 'ROI',
      imageCount: 12,
      slideCount: 0,
      imageSizeNote: '512x512',
      classNames: ['benign', 'malignant'],
      tasks: ['CLASSIFICATION', 'SEGMENTATION'],
      ihcMarkers: ['Ki67'],
      licence: 'CC-BY-4.0',
      publishedYear: 2024,
      citation: { authors: 'A. B.', title: 'T', doi: '10.1000/xyz' },
      homepageUrl: 'https://example.org/data',
      notes: 'N',
      parentCollections: ['tcga'],
      synthetic: true,
    };
    const payload = await create(input);
    assert.deepEqual(at(payload, 'userErrors'), []);
    const { id, ...shown } = JSON.parse(JSON.stringify(at(payload, 'dataset')));
    assert.match(String(id), /^[0-9a-f-]{36}$/);
    assert.deepEqual(shown, {
      ...input,
      slug: 'koln-munster-biopsies',
      provenance: 'LOCAL',
      organs: [{ code: 'COLON' }, { code: 'LYMPH_NODE' }],
      stains: [{ code: 'HE' }, { code: 'PAS' }],
      resolutions: [
        { magnification: 20, totalMagnification: null, micronsPerPixel: 0.5 },
        { magnification: null, totalMagnification: null, micronsPerPixel: 0.25 },
      ],
      citation: { authors: 'A. B.', title: 'T', venue: null, doi: '10.1000/xyz', arxiv: null },
      factSources: [],
      editedAt: null,
    });
    const found = await api.ask('{ datasets(filter: { search: "münster", synthetic: true }) { nodes { slug } } }');
    assert.deepEqual(at(found, 'datasets.nodes'), [{ slug: 'koln-munster-biopsies' }]);
  });

  test('needs a name only', async () => {
    const payload = await create({ name: '乳腺组织' });
    assert.match(String(at(payload, 'dataset.slug')), /^dataset-[0-9a-f]{8}$/);
    assert.deepEqual(at(payload, 'dataset.organs'), []);
    assert.equal(at(payload, 'dataset.imageKind'), 'PATCH');
    assert.equal(at(payload, 'dataset.imageCount'), null);
  });

  test('a slug is unique, even among simultaneous requests', async () => {
    refused(await create({ name: 'BACH', slug: 'bach' }), 'SLUG_TAKEN', 'input.slug');
    refused(await create({ name: 'CRAG' }), 'SLUG_TAKEN', 'input.name');
    const payloads = await Promise.all([1, 2, 3, 4].map(() => create({ name: 'Race', slug: 'race' })));
    assert.equal(payloads.filter((payload) => at(payload, 'dataset') !== null).length, 1);
    assert.deepEqual(
      payloads.flatMap((payload) => listAt(payload, 'userErrors')).map((error) => at(error, 'code')),
      ['SLUG_TAKEN', 'SLUG_TAKEN', 'SLUG_TAKEN'],
    );
  });

  const bad: readonly (readonly [string, object, string])[] = [
    ['an empty name', { name: '   ' }, 'input.name'],
    ['a name too long', { name: 'x'.repeat(201) }, 'input.name'],
    ['a name of two lines', { name: 'a\nb' }, 'input.name'],
    ['a name with a NUL', { name: 'a\0b' }, 'input.name'],
    ['a slug with capitals', { name: 'a', slug: 'Bad' }, 'input.slug'],
    ['a slug with a slash', { name: 'a', slug: '../up' }, 'input.slug'],
    ['an empty slug', { name: 'a', slug: '' }, 'input.slug'],
    ['a slug too long', { name: 'a', slug: 'x'.repeat(81) }, 'input.slug'],
    ['an unknown organ', { name: 'a', organs: ['elbow'] }, 'input.organs.0'],
    ['an unknown stain', { name: 'a', stains: ['H&E', 'ink'] }, 'input.stains.1'],
    ['a stain twice', { name: 'a', stains: ['HE', 'HE'] }, 'input.stains'],
    ['a negative count', { name: 'a', imageCount: -1 }, 'input.imageCount'],
    ['a negative slide count', { name: 'a', slideCount: -1 }, 'input.slideCount'],
    ['a year long ago', { name: 'a', publishedYear: 1066 }, 'input.publishedYear'],
    ['a year far ahead', { name: 'a', publishedYear: 3000 }, 'input.publishedYear'],
    [
      'a magnification of nothing',
      { name: 'a', resolutions: [{ magnification: 0 }] },
      'input.resolutions.0.magnification',
    ],
    [
      'um/px below nothing',
      { name: 'a', resolutions: [{ micronsPerPixel: -0.5 }] },
      'input.resolutions.0.micronsPerPixel',
    ],
    ['an empty resolution', { name: 'a', resolutions: [{}] }, 'input.resolutions.0'],
    [
      'too many resolutions',
      { name: 'a', resolutions: Array.from({ length: 51 }, () => ({ magnification: 20 })) },
      'input.resolutions',
    ],
    ['an address that is a script', { name: 'a', homepageUrl: 'javascript:alert(1)' }, 'input.homepageUrl'],
    ['an invalid address', { name: 'a', homepageUrl: 'here' }, 'input.homepageUrl'],
    ['an invalid DOI', { name: 'a', citation: { doi: 'doi' } }, 'input.citation.doi'],
    ['an empty class', { name: 'a', classNames: ['benign', ''] }, 'input.classNames.1'],
    ['a task twice', { name: 'a', tasks: ['RETRIEVAL', 'RETRIEVAL'] }, 'input.tasks'],
    ['a licence called unknown', { name: 'a', licence: 'unknown' }, 'input.licence'],
    ['a null list', { name: 'a', organs: null }, 'input.organs'],
    ['a description too long', { name: 'a', description: 'x'.repeat(10_001) }, 'input.description'],
    ['a parent that is not there', { name: 'a', parentCollections: ['tcga', 'nowhere'] }, 'input.parentCollections.1'],
    [
      'itself as parent',
      { name: 'Selfish', slug: 'selfish', parentCollections: ['selfish'] },
      'input.parentCollections.0',
    ],
  ];
  for (const [name, input, field] of bad) {
    test(`refuses ${name}`, async () => {
      const before = await database.db.dataset.count();
      refused(await create(input), 'BAD_INPUT', field);
      assert.equal(await database.db.dataset.count(), before);
    });
  }

  test('reports all faults together', async () => {
    const payload = await create({ name: '', imageCount: -1 });
    assert.match(String(at(listAt(payload, 'userErrors')[0], 'hint')), /input\.imageCount must not be negative/);
  });

  test('lists the known organs in the hint', async () => {
    assert.match(
      String(at(listAt(await create({ name: 'a', organs: ['elbow'] }), 'userErrors')[0], 'hint')),
      /BREAST.*LYMPH_NODE/,
    );
  });

  test('needs a key that may contribute', async () => {
    const result = await api.execute(CREATE, { input: { name: 'a' } }, READER);
    assert.equal(at(result.errors?.[0]?.originalError, 'code'), 'UNAUTHENTICATED');
    const reader = await api.execute(CREATE, { input: { name: 'a' } }, keyHolder('READER'));
    assert.equal(at(reader.errors?.[0]?.originalError, 'code'), 'FORBIDDEN');
  });
});

describe('updateDataset', () => {
  test('changes what is given, keeps the rest, and drops the evidence of what changed', async () => {
    const before = at(await api.ask(`{ dataset(slug: "panda") { ${FIELDS} } }`), 'dataset');
    const payload = await update({
      id: at(before, 'id'),
      slideCount: 10_000,
      licence: null,
      organs: ['prostate'],
      citation: at(before, 'citation'),
    });
    assert.deepEqual(at(payload, 'userErrors'), []);
    const after = at(payload, 'dataset');
    assert.equal(at(after, 'slideCount'), 10_000);
    assert.equal(at(after, 'licence'), null);
    assert.notEqual(at(after, 'editedAt'), null);
    for (const kept of [
      'slug',
      'name',
      'organs',
      'stains',
      'resolutions',
      'citation',
      'tasks',
      'classNames',
      'notes',
      'provenance',
    ])
      assert.deepEqual(at(after, kept), at(before, kept), kept);
    const fields = (dataset: unknown): unknown[] => listAt(dataset, 'factSources').map((fact) => at(fact, 'field'));
    assert.deepEqual(
      fields(after),
      fields(before).filter((field) => field !== 'slideCount' && field !== 'licence'),
    );
  });

  test('a changed organ is found by filter and search at once', async () => {
    const id = at(await create({ name: 'Wanderer', slug: 'one-who-moves', organs: ['skin'] }), 'dataset.id');
    await update({ id, organs: ['eye'], name: 'Settler' });
    assert.deepEqual(
      at(await api.ask('{ datasets(filter: { search: "settler eye" }) { nodes { name } } }'), 'datasets.nodes'),
      [{ name: 'Settler' }],
    );
    assert.deepEqual(
      at(await api.ask('{ datasets(filter: { search: "wanderer" }) { nodes { name } } }'), 'datasets.nodes'),
      [],
    );
  });

  test('refuses an unknown id', async () => {
    for (const id of ['nonsense', '0190a1b2-0000-7000-8000-000000000000'])
      refused(await update({ id, name: 'x' }), 'DATASET_NOT_FOUND', 'input.id');
  });

  test('refuses null for a name or a list, and the same bad values as createDataset', async () => {
    const id = at(await create({ name: 'Steady' }), 'dataset.id');
    refused(await update({ id, name: null }), 'BAD_INPUT', 'input.name');
    refused(await update({ id, imageKind: null }), 'BAD_INPUT', 'input.imageKind');
    refused(await update({ id, organs: null }), 'BAD_INPUT', 'input.organs');
    refused(await update({ id, stains: ['ink'] }), 'BAD_INPUT', 'input.stains.0');
    refused(await update({ id, parentCollections: ['steady'] }), 'BAD_INPUT', 'input.parentCollections.0');
    assert.equal(
      at(await api.ask('query ($id: ID) { dataset(id: $id) { editedAt } }', { id }), 'dataset.editedAt'),
      null,
    );
  });

  test('needs a key that may contribute', async () => {
    const result = await api.execute(UPDATE, { input: { id: 'x' } }, READER);
    assert.equal(at(result.errors?.[0]?.originalError, 'code'), 'UNAUTHENTICATED');
  });
});
