/** The catalogue from its files through PostgreSQL to the API. */
import { after, before, describe, test } from 'node:test';
import assert from 'node:assert/strict';
import { readFile, readdir } from 'node:fs/promises';
import path from 'node:path';
import { loadCatalogue, seedCatalogue } from '../../src/modules/datasets/index.ts';
import { openTestDatabase, type TestDatabase } from '../support/database.ts';
import { at, catalogueApi, listAt, type CatalogueApi } from '../support/catalogue.ts';

const FOLDER = path.resolve(import.meta.dirname, '../../prisma/catalog');
let database: TestDatabase;
let api: CatalogueApi;

before(async () => {
  database = await openTestDatabase();
  api = catalogueApi(database);
});
after(() => database.close());

const EVERY_FACT = `query ($slug: String!) { dataset(slug: $slug) {
  slug name provenance provenanceNote synthetic organs { code name } stains { code name } ihcMarkers
  resolutions { magnification totalMagnification micronsPerPixel } imageKind imageCount slideCount imageSizeNote classNames tasks licence publishedYear
  citation { authors title venue doi arxiv } homepageUrl notes paperRoles parentCollections
  subcollections { slug organ slideCount magnifications source } sourceUrls factSources { field evidence sourceUrls } } }`;

/** Where the API shows a field of a catalogue file whose evidence is stated. */
const API_FIELDS: Readonly<Record<string, string>> = {
  organs: 'organs',
  stains: 'stains',
  magnifications: 'resolutions.magnification',
  microns_per_pixel: 'resolutions.micronsPerPixel',
  image_kind: 'imageKind',
  image_count: 'imageCount',
  wsi_count: 'slideCount',
  pixel_size: 'imageSizeNote',
  classes: 'classNames',
  tasks: 'tasks',
  licence: 'licence',
  year: 'publishedYear',
  citation: 'citation',
  homepage: 'homepageUrl',
};

const sorted = (values: unknown): unknown[] => (Array.isArray(values) ? [...values].sort() : []);
const upper = (text: unknown): string => String(text).toUpperCase().replaceAll('-', '_');
const known = (values: readonly unknown[]): unknown[] => values.filter((value) => value !== null);

describe('the catalogue in the API', () => {
  test('has all 57 rows', async () => {
    assert.equal((await readdir(FOLDER)).length, 57);
    assert.equal(at(await api.ask('{ datasets { totalCount } }'), 'datasets.totalCount'), 57);
  });

  test('shows every fact of every file', async () => {
    for (const file of await readdir(FOLDER)) {
      const row: unknown = JSON.parse(await readFile(path.join(FOLDER, file), 'utf8'));
      const shown = at(await api.ask(EVERY_FACT, { slug: at(row, 'slug') }), 'dataset');
      const same = (field: string, catalogueField: string): void =>
        assert.deepEqual(at(shown, field), at(row, catalogueField) ?? null, `${file}: ${catalogueField}`);
      same('name', 'name');
      same('provenanceNote', 'provenance_note');
      same('imageKind', 'image_kind');
      same('imageCount', 'image_count');
      same('slideCount', 'wsi_count');
      same('imageSizeNote', 'pixel_size');
      same('licence', 'licence');
      same('publishedYear', 'year');
      same('citation', 'citation');
      same('homepageUrl', 'homepage');
      same('notes', 'notes');
      same('sourceUrls', 'source_urls');
      assert.equal(at(shown, 'provenance'), upper(at(row, 'provenance')), file);
      assert.equal(at(shown, 'synthetic'), false);
      assert.deepEqual(at(shown, 'classNames'), at(row, 'classes') ?? [], file);
      assert.deepEqual(at(shown, 'ihcMarkers'), at(row, 'ihc_markers') ?? [], file);
      assert.deepEqual(at(shown, 'paperRoles'), at(row, 'paper_roles') ?? [], file);
      assert.deepEqual(at(shown, 'parentCollections'), at(row, 'parent_collections') ?? [], file);
      assert.deepEqual(at(shown, 'tasks'), listAt(row, 'tasks').map(upper), file);
      assert.deepEqual(
        sorted(listAt(shown, 'organs').map((organ) => at(organ, 'name'))),
        sorted(at(row, 'organs')),
        file,
      );
      assert.deepEqual(
        sorted(listAt(shown, 'stains').map((stain) => at(stain, 'name'))),
        sorted(at(row, 'stains')),
        file,
      );
      const resolutions = listAt(shown, 'resolutions');
      const magnificationField = at(row, 'magnification_kind') === 'total' ? 'totalMagnification' : 'magnification';
      assert.deepEqual(
        known(resolutions.map((each) => at(each, magnificationField))),
        at(row, 'magnifications') ?? [],
        file,
      );
      assert.deepEqual(
        known(resolutions.map((each) => at(each, 'micronsPerPixel'))),
        at(row, 'microns_per_pixel') ?? [],
        file,
      );
      const parts = at(row, 'subcollections') ?? [];
      assert.ok(Array.isArray(parts));
      const expectedParts = parts.map((part) => ({
        slug: at(part, 'slug'),
        organ: at(part, 'organ') ?? null,
        slideCount: at(part, 'slides'),
        magnifications: at(part, 'magnifications') ?? [],
        source: at(part, 'source'),
      }));
      assert.deepEqual(at(shown, 'subcollections'), expectedParts, file);
      const facts = new Map(listAt(shown, 'factSources').map((fact) => [at(fact, 'field'), fact]));
      for (const [field, apiField] of Object.entries(API_FIELDS)) {
        const evidence = at(row, `evidence.${field}`);
        const fact = facts.get(apiField);
        assert.equal(
          at(fact, 'evidence') ?? null,
          evidence === null ? null : upper(evidence),
          `${file}: evidence.${field}`,
        );
        assert.deepEqual(
          at(fact, 'sourceUrls') ?? [],
          at(row, `field_sources.${field}`) ?? [],
          `${file}: field_sources.${field}`,
        );
      }
    }
  });

  test('pairs a magnification with um/px only if there is one of each, and keeps total magnifications apart', async () => {
    const data =
      await api.ask(`{ pcam: dataset(slug: "patchcamelyon") { resolutions { magnification micronsPerPixel } } glas: dataset(slug: "glas") { resolutions { magnification micronsPerPixel } }
      breakhis: dataset(slug: "breakhis") { resolutions { magnification totalMagnification } } oscc: dataset(slug: "oscc") { resolutions { magnification totalMagnification } } }`);
    assert.deepEqual(at(data, 'pcam.resolutions'), [{ magnification: 10, micronsPerPixel: 1 }]);
    assert.deepEqual(at(data, 'glas.resolutions'), [
      { magnification: 20, micronsPerPixel: null },
      { magnification: null, micronsPerPixel: 0.62005 },
      { magnification: null, micronsPerPixel: 0.465 },
    ]);
    assert.deepEqual(listAt(data, 'breakhis.resolutions').at(1), { magnification: 10, totalMagnification: 100 });
    assert.deepEqual(at(data, 'oscc.resolutions'), [
      { magnification: null, totalMagnification: 100 },
      { magnification: null, totalMagnification: 400 },
    ]);
  });

  test('counts datasets by organ and stain', async () => {
    const data = await api.ask('{ organs { code name datasetCount } stains { code name datasetCount } }');
    assert.equal(listAt(data, 'organs').length, 31);
    assert.deepEqual(
      listAt(data, 'organs').find((organ) => at(organ, 'code') === 'LYMPH_NODE'),
      { code: 'LYMPH_NODE', name: 'lymph node', datasetCount: 7 },
    );
    assert.deepEqual(at(data, 'stains'), [
      { code: 'HE', name: 'H&E', datasetCount: 55 },
      { code: 'IHC', name: 'IHC', datasetCount: 8 },
      { code: 'MASSON_TRICHROME', name: 'Masson trichrome', datasetCount: 3 },
      { code: 'PAS', name: 'PAS', datasetCount: 1 },
    ]);
  });
});

describe('seeding', () => {
  test('again writes nothing', async () => {
    const before = await database.db.dataset.findMany({
      select: { id: true, updatedAt: true },
      orderBy: { id: 'asc' },
    });
    const report = await seedCatalogue(database.db, await loadCatalogue());
    assert.deepEqual([report.created, report.updated, report.unchanged.length], [[], [], 57]);
    assert.deepEqual(
      await database.db.dataset.findMany({ select: { id: true, updatedAt: true }, orderBy: { id: 'asc' } }),
      before,
    );
  });

  test('updates the row of a changed file and keeps its id', async () => {
    const catalogue = await loadCatalogue();
    const changed = catalogue.map((dataset) =>
      dataset.slug === 'crag'
        ? { ...dataset, notes: 'A fact that was added.', organs: [{ code: 'SPLEEN', name: 'spleen' }] }
        : dataset,
    );
    const before = await api.ask('{ dataset(slug: "crag") { id } }');
    assert.deepEqual((await seedCatalogue(database.db, changed)).updated, ['crag']);
    const data = await api.ask('{ dataset(slug: "crag") { id notes organs { code } factSources { field } } }');
    assert.equal(at(data, 'dataset.id'), at(before, 'dataset.id'));
    assert.equal(at(data, 'dataset.notes'), 'A fact that was added.');
    assert.deepEqual(at(data, 'dataset.organs'), [{ code: 'SPLEEN' }]);
    assert.ok(listAt(data, 'dataset.factSources').length > 5);
    assert.deepEqual((await seedCatalogue(database.db, catalogue)).updated, ['crag']);
    await database.db.organ.delete({ where: { code: 'SPLEEN' } });
  });

  test('does not change what a user edited or created under the same slug', async () => {
    const catalogue = await loadCatalogue();
    const id = at(await api.ask('{ dataset(slug: "lyon19") { id } }'), 'dataset.id');
    await api.ask(
      'mutation ($input: UpdateDatasetInput!) { updateDataset(input: $input) { userErrors { message } } }',
      { input: { id, description: 'Edited by hand.' } },
    );
    await api.ask('mutation { createDataset(input: { name: "Ours", slug: "ours" }) { userErrors { message } } }');
    const [any] = catalogue;
    assert.ok(any !== undefined);
    const report = await seedCatalogue(database.db, [
      ...catalogue.map((dataset) => (dataset.slug === 'lyon19' ? { ...dataset, name: 'Overwritten' } : dataset)),
      { ...any, slug: 'ours', name: 'Not yours' },
    ]);
    assert.deepEqual([...report.kept].sort(), ['lyon19', 'ours']);
    const data = await api.ask(
      '{ a: dataset(slug: "lyon19") { name description editedAt } b: dataset(slug: "ours") { name provenance } }',
    );
    assert.match(String(at(data, 'a.name')), /^LYON19/);
    assert.equal(at(data, 'a.description'), 'Edited by hand.');
    assert.notEqual(at(data, 'a.editedAt'), null);
    assert.deepEqual(at(data, 'b'), { name: 'Ours', provenance: 'LOCAL' });
    await database.db.dataset.delete({ where: { slug: 'ours' } });
  });

  test('by several servers at once happens once', async () => {
    const catalogue = (await loadCatalogue()).map((dataset) => ({
      ...dataset,
      slug: `copy-${dataset.slug}`.slice(0, 80),
    }));
    const reports = await Promise.all([1, 2, 3].map(() => seedCatalogue(database.db, catalogue)));
    assert.deepEqual(reports.map((report) => report.created.length).sort(), [0, 0, 57].sort());
    await database.db.dataset.deleteMany({ where: { slug: { startsWith: 'copy-' } } });
  });
});
