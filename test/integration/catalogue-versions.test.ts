/** The life cycle of a dataset version: drafts, sealing, and that a sealed version does not change. */
import { createHash } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import assert from 'node:assert/strict';
import { DomainError } from '../../src/errors.ts';
import type { DatasetService, SealedContent } from '../../src/modules/datasets/index.ts';
import type { ImportedSlide } from '../../src/protocol/imported-slide.ts';
import { openTestDatabase, type TestDatabase } from '../support/database.ts';
import { at, catalogueApi, listAt, READER, type CatalogueApi } from '../support/catalogue.ts';

let database: TestDatabase;
let api: CatalogueApi;
let datasets: DatasetService;
let datasetId: string;
const NOBODY = '0190a1b2-0000-7000-8000-000000000000';
const sha = (text: string): string => createHash('sha256').update(text).digest('hex');

before(async () => {
  database = await openTestDatabase();
  api = catalogueApi(database);
  datasets = api.datasets;
  datasetId = String(at(await api.ask('{ dataset(slug: "bach") { id } }'), 'dataset.id'));
});
after(() => database.close());

function content(seed: string): SealedContent {
  const shards = [0, 1].map((index) => ({
    sha256: sha(`${seed} shard ${index}`),
    byteSize: 5_000_000_000,
    imageCount: 3,
  }));
  const thumbnails = ['benign', null].map((label, index) => ({ sha256: sha(`${seed} thumbnail ${index}`), label }));
  const manifestSha256 = sha(`${seed} manifest`);
  return {
    digest: sha(seed),
    manifestSha256,
    imageCount: 6,
    byteSize: 10_000_000_000,
    labelNames: ['benign', 'malignant'],
    groupCount: 2,
    ungroupedImageCount: 0,
    hasSplit: true,
    shards,
    thumbnails,
    labelCounts: [
      { label: 'benign', count: 4 },
      { label: 'malignant', count: 2 },
    ],
    issues: [{ kind: 'UNREADABLE', count: 1, kept: false, examples: ['a/ü.png'] }],
    artifacts: [
      ...shards.map((shard) => ({ sha256: shard.sha256, byteSize: shard.byteSize, mediaType: 'application/x-tar' })),
      ...thumbnails.map((thumbnail) => ({ sha256: thumbnail.sha256, byteSize: 100, mediaType: 'image/webp' })),
      { sha256: manifestSha256, byteSize: 1000, mediaType: 'application/jsonl' },
    ],
  };
}
/** Patches of three slides, and a slide that was left out before anything was known of it. */
function contentOfSlides(seed: string): SealedContent {
  const whole = content(seed);
  const tissue = {
    ...{ tissueFraction: 0.25, penFraction: 0 },
    thumbnail: { sha256: sha(`${seed} overview`), byteSize: 300 },
    mask: { sha256: sha(`${seed} mask`), byteSize: 200 },
  };
  const imported: Omit<ImportedSlide, 'path' | 'label'> = {
    ...{ status: 'IMPORTED', issueKind: null, reason: null, group: 'P1', split: 'train', patchCount: 2, tissue },
    file: { sha256: sha(`${seed} file`), byteSize: 5_000_000_000 },
    facts: {
      vendor: 'aperio',
      levels: [
        { width: 100_000, height: 80_000, downsample: 1 },
        { width: 25_000, height: 20_000, downsample: 4 },
      ],
      objective: 40,
      micronsPerPixel: { x: 0.25, y: 0.2502, source: 'OPENSLIDE', property: 'openslide.mpp-x' },
    },
  };
  return {
    ...whole,
    slides: [
      { ...imported, path: 'a/S1.svs', label: 'benign' },
      { ...imported, path: 'a/S2_100%.svs', label: 'benign' },
      { ...imported, path: 'b/S3.svs', label: 'malignant' },
      {
        ...{
          path: 'b/\u00fc.svs',
          status: 'LEFT_OUT',
          issueKind: 'NOT_A_SLIDE',
          reason: 'It is a JPEG.',
          patchCount: 0,
        },
        ...{ file: null, label: 'malignant', group: null, split: null, facts: null, tissue: null },
      },
    ],
    artifacts: [
      ...whole.artifacts,
      { ...tissue.thumbnail, mediaType: 'image/webp' },
      { ...tissue.mask, mediaType: 'image/png' },
    ],
  };
}
const draft = (id = datasetId) =>
  database.transact((tx) => datasets.createDraftVersion(tx, { datasetId: id, patchSizePx: 224 }));
const seal = (versionId: string, sealed: SealedContent) =>
  database.transact((tx) => datasets.sealVersion(tx, { versionId, ...sealed }));
const refusal = (code: string, field?: string) => (error: unknown) =>
  error instanceof DomainError && error.code === code && (field === undefined || error.field === field);

describe('a version', () => {
  test('is a draft, then sealed with its whole content, and shown by the API', async () => {
    const made = await draft();
    assert.deepEqual([made.version, made.status, made.imageCount, made.digest], [1, 'DRAFT', 0, null]);
    const query =
      'query ($id: ID) { dataset(id: $id) { latestVersion { id } versions { nodes { id version status } totalCount } } }';
    const before = await api.ask(query, { id: datasetId });
    assert.deepEqual(at(before, 'dataset'), {
      latestVersion: null,
      versions: { nodes: [{ id: made.id, version: 1, status: 'DRAFT' }], totalCount: 1 },
    });
    await assert.rejects(
      datasets.requireSealedVersions([made.id], () => 'input.x'),
      refusal('DATASET_VERSION_NOT_SEALED', 'input.x'),
    );

    const sealed = content('one');
    await seal(made.id, sealed);
    const [required] = await datasets.requireSealedVersions([made.id.toUpperCase()]);
    assert.deepEqual(required?.shards, sealed.shards);
    assert.equal(required?.digest, sealed.digest);
    const shown = await api.ask(
      `query ($id: ID) { dataset(id: $id) { latestVersion { id version status digest manifestSha256 patchSizePx imageCount byteSize labelNames labelCounts { label count } groupCount ungroupedImageCount hasSplit
        issues { kind count kept examples } dataset { slug } } } }`,
      { id: datasetId },
    );
    const { shards: _shards, thumbnails: _thumbnails, artifacts: _artifacts, ...facts } = sealed;
    assert.deepEqual(at(shown, 'dataset.latestVersion'), {
      ...facts,
      id: made.id,
      version: 1,
      status: 'SEALED',
      patchSizePx: 224,
      dataset: { slug: 'bach' },
    });
    assert.equal(
      at(await api.ask('{ datasets(filter: { hasVersions: true }) { totalCount } }'), 'datasets.totalCount'),
      1,
    );
  });

  test('is found with its thumbnails', async () => {
    assert.deepEqual(await datasets.thumbnailOf(READER, datasetId, 0), {
      position: 0,
      sha256: sha('one thumbnail 0'),
      byteSize: 100,
      label: 'benign',
    });
    assert.equal((await datasets.thumbnailOf(READER, datasetId, 1))?.label, null);
    for (const position of [2, -1, 0.5, Number.NaN, 2 ** 40])
      assert.equal(await datasets.thumbnailOf(READER, datasetId, position), undefined);
    assert.equal(await datasets.thumbnailOf(READER, 'nonsense', 0), undefined);
    const answer = await api.ask(
      'query ($id: ID!) { dataset(id: $id) { latestVersion { thumbnails { position label url } } } }',
      { id: datasetId },
    );
    assert.deepEqual(
      listAt(answer, 'dataset.latestVersion.thumbnails'),
      ['benign', null].map((label, position) => ({
        position,
        label,
        url: `/artifacts/${sha(`one thumbnail ${position}`)}`,
      })),
    );
  });

  test('is never sealed twice', async () => {
    const [version] = await database.db.datasetVersion.findMany({ where: { datasetId, status: 'SEALED' } });
    assert.ok(version !== undefined);
    await assert.rejects(seal(version.id, content('again')), refusal('CONFLICT'));
    await assert.rejects(seal(NOBODY, content('again')), refusal('DATASET_VERSION_NOT_FOUND'));
    await assert.rejects(seal('nonsense', content('again')), refusal('DATASET_VERSION_NOT_FOUND'));
  });

  test('once sealed cannot be changed by any program', async () => {
    const { db } = database;
    const [version] = await db.datasetVersion.findMany({ where: { datasetId, status: 'SEALED' } });
    assert.ok(version !== undefined);
    const where = { id: version.id };
    const parts = { datasetVersionId: version.id };
    await assert.rejects(db.datasetVersion.update({ where, data: { imageCount: 7 } }), /sealed/);
    await assert.rejects(db.datasetVersion.update({ where, data: { status: 'DRAFT' } }), /sealed/);
    await assert.rejects(db.datasetVersion.update({ where, data: { labelNames: ['other'] } }), /sealed/);
    await assert.rejects(db.datasetShard.updateMany({ where: parts, data: { imageCount: 9 } }), /sealed/);
    await assert.rejects(db.datasetShard.deleteMany({ where: parts }), /sealed/);
    await assert.rejects(
      db.datasetShard.create({
        data: { ...parts, position: 9, sha256: sha('one shard 0'), byteSize: 1, imageCount: 1 },
      }),
      /sealed/,
    );
    await assert.rejects(db.datasetThumbnail.deleteMany({ where: parts }), /sealed/);
    assert.equal(await database.transact((tx) => datasets.dropDraftVersion(tx, version.id)), false);
    await assert.rejects(db.datasetVersion.update({ where, data: { ungroupedImageCount: 1 } }), /sealed/);
    await assert.rejects(db.datasetVersion.update({ where, data: { groupCount: 1 } }), /sealed/);
    // The link to its import run is not part of the content.
    await db.datasetVersion.update({ where, data: { importRunId: null } });
  });

  test('with contradictory content is refused and stays a draft', async () => {
    const made = await draft();
    const good = content('two');
    const bad: readonly (readonly [string, SealedContent])[] = [
      ['no images', { ...good, imageCount: 0, shards: [], labelCounts: [] }],
      ['shards of another count', { ...good, imageCount: 7 }],
      ['more labelled than there are', { ...good, labelCounts: [{ label: 'benign', count: 7 }] }],
      ['more groups and images without one than images', { ...good, ungroupedImageCount: 5 }],
      ['an unknown label', { ...good, labelCounts: [{ label: 'other', count: 1 }] }],
      ['an invalid digest', { ...good, digest: 'abc' }],
      ['an artifact that is not recorded', { ...good, artifacts: good.artifacts.slice(1) }],
      ['slides with pictures that are not recorded', { ...contentOfSlides('two'), artifacts: good.artifacts }],
      ['slides of another count', { ...contentOfSlides('two'), slides: contentOfSlides('two').slides?.slice(1) ?? [] }],
      [
        'a slide that is left out and gives patches',
        {
          ...contentOfSlides('two'),
          slides: contentOfSlides('two').slides?.map((slide) => ({ ...slide, status: 'LEFT_OUT' })) ?? [],
        },
      ],
    ];
    for (const [name, wrong] of bad) await assert.rejects(seal(made.id, wrong), /cannot be sealed/, name);
    assert.equal((await datasets.getVersion(READER, made.id))?.status, 'DRAFT');
    assert.equal(await database.db.datasetShard.count({ where: { datasetVersionId: made.id } }), 0);
    assert.equal(await database.transact((tx) => datasets.dropDraftVersion(tx, made.id)), true);
    assert.equal(await database.transact((tx) => datasets.dropDraftVersion(tx, made.id)), false);
    assert.equal(await datasets.getVersion(READER, made.id), undefined);
  });

  test('lists its slides page by page and by a filter, keeps them as they are, and takes them along when it is deleted', async () => {
    const { db } = database;
    const made = await draft();
    await seal(made.id, contentOfSlides('slides'));
    const query = `query ($id: ID!, $first: Int, $after: String, $filter: SlideFilter) { node(id: $id) { ... on DatasetVersion { slides(first: $first, after: $after, filter: $filter) {
      totalCount pageInfo { hasNextPage endCursor } nodes { path } } } } }`;
    const pathsOf = async (variables: object): Promise<unknown[]> =>
      listAt(await api.ask(query, { id: made.id, ...variables }), 'node.slides.nodes').map((node) => at(node, 'path'));
    const first = await api.ask(query, { id: made.id, first: 3 });
    assert.deepEqual(at(first, 'node.slides.totalCount'), 4);
    assert.deepEqual(at(first, 'node.slides.nodes'), [
      { path: 'a/S1.svs' },
      { path: 'a/S2_100%.svs' },
      { path: 'b/S3.svs' },
    ]);
    const after = at(first, 'node.slides.pageInfo.endCursor');
    assert.deepEqual(await pathsOf({ first: 3, after }), ['b/\u00fc.svs']);
    assert.deepEqual(await pathsOf({ filter: { status: 'LEFT_OUT' } }), ['b/\u00fc.svs']);
    assert.deepEqual(await pathsOf({ filter: { label: 'malignant', status: 'IMPORTED' } }), ['b/S3.svs']);
    assert.deepEqual(await pathsOf({ filter: { search: 's2_' } }), ['a/S2_100%.svs']);
    assert.deepEqual(await pathsOf({ filter: { search: '%' } }), ['a/S2_100%.svs']);
    assert.deepEqual(await pathsOf({ filter: { label: 'nothing' } }), []);
    const invalid = await api.execute(query, {
      id: made.id,
      after: Buffer.from('["VERSION",1]').toString('base64url'),
    });
    assert.equal(at(invalid.errors?.[0]?.originalError, 'code'), 'CURSOR_INVALID');
    const tooLong = await api.execute(query, { id: made.id, filter: { search: 'x'.repeat(201) } });
    assert.equal(at(tooLong.errors?.[0]?.originalError, 'field'), 'filter.search');

    const shown = await api.ask(
      `query ($id: ID!) { node(id: $id) { ... on DatasetVersion { slides { nodes { position path status issueKind reason fileDigest fileByteSize label group split vendor width height
        levels { width height downsample } micronsPerPixel { x y source property } objective patchCount tissueFraction penFraction thumbnailUrl tissueMaskUrl } } } } }`,
      { id: made.id },
    );
    const slides = listAt(shown, 'node.slides.nodes');
    assert.deepEqual(slides[0], {
      ...{ position: 0, path: 'a/S1.svs', status: 'IMPORTED', issueKind: null, reason: null },
      ...{ fileDigest: sha('slides file'), fileByteSize: 5_000_000_000, label: 'benign', group: 'P1', split: 'train' },
      ...{ vendor: 'aperio', width: 100_000, height: 80_000, objective: 40, patchCount: 2 },
      levels: [
        { width: 100_000, height: 80_000, downsample: 1 },
        { width: 25_000, height: 20_000, downsample: 4 },
      ],
      micronsPerPixel: { x: 0.25, y: 0.2502, source: 'OPENSLIDE', property: 'openslide.mpp-x' },
      ...{ tissueFraction: 0.25, penFraction: 0 },
      ...{ thumbnailUrl: `/artifacts/${sha('slides overview')}`, tissueMaskUrl: `/artifacts/${sha('slides mask')}` },
    });
    assert.deepEqual(slides[3], {
      ...{ position: 3, path: 'b/\u00fc.svs', status: 'LEFT_OUT', issueKind: 'NOT_A_SLIDE', reason: 'It is a JPEG.' },
      ...{ fileDigest: null, fileByteSize: null, label: 'malignant', group: null, split: null, vendor: null },
      ...{ width: null, height: null, objective: null, patchCount: 0, levels: [], micronsPerPixel: null },
      ...{ tissueFraction: null, penFraction: null, thumbnailUrl: null, tissueMaskUrl: null },
    });

    const parts = { datasetVersionId: made.id };
    await assert.rejects(db.slide.updateMany({ where: parts, data: { label: 'other' } }), /sealed/);
    await assert.rejects(db.slide.deleteMany({ where: parts }), /sealed/);
    await assert.rejects(db.slide.create({ data: { ...parts, position: 9, path: 'x', status: 'LEFT_OUT' } }), /sealed/);
    await db.datasetVersion.delete({ where: { id: made.id } });
    assert.equal(await db.slide.count({ where: parts }), 0);
  });

  test('shares artifacts with another version with the same bytes', async () => {
    const made = await draft();
    await seal(made.id, { ...content('one'), digest: sha('one, again') });
    assert.equal(await database.db.artifact.count({ where: { sha256: sha('one shard 0') } }), 1);
    assert.equal(await database.db.datasetShard.count({ where: { sha256: sha('one shard 0') } }), 2);
  });

  test('gets a unique number if many are created at once', async () => {
    const other = String(at(await api.ask('{ dataset(slug: "crag") { id } }'), 'dataset.id'));
    const made = await Promise.all(Array.from({ length: 8 }, () => draft(other)));
    assert.deepEqual(made.map((version) => version.version).sort(), [1, 2, 3, 4, 5, 6, 7, 8]);
    const query =
      'query ($id: ID, $after: String) { dataset(id: $id) { versions(first: 3, after: $after) { nodes { version } pageInfo { hasNextPage endCursor } } } }';
    const first = await api.ask(query, { id: other });
    const second = await api.ask(query, { id: other, after: at(first, 'dataset.versions.pageInfo.endCursor') });
    assert.deepEqual(at(first, 'dataset.versions.nodes'), [{ version: 8 }, { version: 7 }, { version: 6 }]);
    assert.deepEqual(at(second, 'dataset.versions.nodes'), [{ version: 5 }, { version: 4 }, { version: 3 }]);
    const result = await api.execute(query, { id: other, after: 'nonsense' });
    assert.equal(at(result.errors?.[0]?.originalError, 'code'), 'CURSOR_INVALID');
  });

  test('needs a dataset', async () => {
    await assert.rejects(draft(NOBODY), refusal('DATASET_NOT_FOUND'));
    await assert.rejects(draft('nonsense'), refusal('DATASET_NOT_FOUND'));
  });

  test('that does not exist is reported with its input field', async () => {
    const [version] = await database.db.datasetVersion.findMany({ where: { datasetId, status: 'SEALED' } });
    for (const id of [NOBODY, 'nonsense', '']) {
      await assert.rejects(
        datasets.requireSealedVersions([version?.id ?? '', id], (index) => `input.datasets.${index}.datasetVersionId`),
        refusal('DATASET_VERSION_NOT_FOUND', 'input.datasets.1.datasetVersionId'),
      );
      assert.equal(await datasets.getVersion(READER, id), undefined);
    }
  });
});
