/**
 * Cards by real HTTP: Croissant 1.1 against what its specification requires, model cards against Hugging Face's
 * conventions.
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import jsonld from 'jsonld';
import { at, listAt } from '../support/catalogue.ts';
import { INPUT_CONTRACT, makeRun, newCheckpoint } from '../support/checkpoints.ts';
import { openTestDatabase, type TestDatabase } from '../support/database.ts';
import { startTestServer, type TestServer } from '../support/server.ts';
import { keyHolder } from '../support/viewers.ts';

/**
 * "Required" in https://docs.mlcommons.org/croissant/docs/croissant-spec-1.1.html, with distribution, which it makes
 * required.
 */
const REQUIRED = [
  '@context',
  '@type',
  'conformsTo',
  'description',
  'license',
  'name',
  'url',
  'creator',
  'datePublished',
  'distribution',
];
const sha = (text: string): string => createHash('sha256').update(text).digest('hex');
const NAME = 'Kólon «α» 大腸 | <b>';
const MANIFEST = Buffer.from('{"key":"000000"}\n');

let database: TestDatabase;
let server: TestServer;
let datasetId: string;
let versionId: string;

before(async () => {
  database = await openTestDatabase();
  server = await startTestServer(database);
  const dataset = await server.services.datasets.create(keyHolder('ADMIN'), {
    name: NAME,
    slug: 'kolon',
    imageKind: 'PATCH',
    synthetic: false,
    organs: ['COLON'],
    stains: ['HE'],
    tasks: ['CLASSIFICATION'],
    licence: 'CC-BY-4.0',
    publishedYear: 2021,
    resolutions: [{ magnification: 20, micronsPerPixel: 0.5 }],
    citation: { authors: 'Å. Ångström, 山田 太郎', title: 'On colons', doi: '10.1000/1' },
  });
  datasetId = dataset.id;
  const manifestSha256 = (await server.store.put(MANIFEST)).sha256;
  const shards = [0, 1].map((index) => ({ sha256: sha(`shard ${index}`), byteSize: 5_000_000_000, imageCount: 3 }));
  const draft = await database.transact((tx) => server.services.datasets.createDraftVersion(tx, { datasetId }));
  versionId = draft.id;
  await database.transact((tx) =>
    server.services.datasets.sealVersion(tx, {
      versionId,
      digest: sha('all'),
      manifestSha256,
      imageCount: 6,
      byteSize: 10_000_000_000,
      labelNames: ['tumour', 'stroma'],
      labelCounts: [{ label: 'tumour', count: 6 }],
      groupCount: 2,
      ungroupedImageCount: 4,
      hasSplit: false,
      issues: [],
      thumbnails: [],
      shards,
      artifacts: [
        ...shards.map(({ sha256, byteSize }) => ({ sha256, byteSize, mediaType: 'application/x-tar' })),
        { sha256: manifestSha256, byteSize: MANIFEST.length, mediaType: 'application/jsonl' },
      ],
    }),
  );
});
after(async () => {
  await server.close();
  await database.close();
});

async function croissant(path: string): Promise<unknown> {
  const response = await fetch(server.url + path);
  assert.equal(response.status, 200);
  assert.equal(
    response.headers.get('content-type'),
    'application/ld+json; profile="http://mlcommons.org/croissant/1.1"',
  );
  return response.json();
}

/** Every value under a key, however deep. */
function valuesOf(key: string, value: unknown): unknown[] {
  if (Array.isArray(value)) return value.flatMap((item) => valuesOf(key, item));
  if (typeof value !== 'object' || value === null) return [];
  return Object.entries(value).flatMap(([name, inner]) => [...(name === key ? [inner] : []), ...valuesOf(key, inner)]);
}

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** Every object of a document, however deep. */
function nodesOf(value: unknown): unknown[] {
  if (Array.isArray(value)) return value.flatMap(nodesOf);
  return isRecord(value) ? [value, ...Object.values(value).flatMap(nodesOf)] : [];
}

describe('a dataset card', () => {
  test('has everything that Croissant 1.1 requires, with the name in UTF-8 as given', async () => {
    const card = await croissant(`/datasets/${datasetId}/croissant.json`);
    assert.deepEqual(
      REQUIRED.filter((name) => at(card, name) === undefined),
      [],
    );
    assert.equal(at(card, '@type'), 'sc:Dataset');
    assert.equal(at(card, 'conformsTo'), 'http://mlcommons.org/croissant/1.1');
    assert.equal(at(card, 'name'), NAME);
    assert.deepEqual(at(card, 'creator'), [
      { '@type': 'Person', name: 'Å. Ångström' },
      { '@type': 'Person', name: '山田 太郎' },
    ]);
    assert.equal(at(card, 'license'), 'https://spdx.org/licenses/CC-BY-4.0');
    assert.equal(at(card, 'datePublished'), '2021');
    assert.equal(at(card, 'version'), '1.0.0');
    assert.equal(at(card, 'url'), `${server.url}/datasets/kolon`);
  });

  test('every file has address, format and sha256; every reference has a target; every id is unique', async () => {
    const card = await croissant(`/datasets/${datasetId}/croissant.json?version=1`);
    const distribution = listAt(card, 'distribution');
    const objects = distribution.filter((file) => at(file, '@type') === 'cr:FileObject');
    assert.equal(objects.length, 3);
    for (const file of objects) {
      assert.match(String(at(file, 'sha256')), /^[0-9a-f]{64}$/);
      assert.equal(at(file, 'contentUrl'), `${server.url}/artifacts/${String(at(file, 'sha256'))}`);
      assert.equal(typeof at(file, 'encodingFormat'), 'string');
    }
    const manifest = await fetch(String(at(objects[0], 'contentUrl')));
    assert.deepEqual(Buffer.from(await manifest.arrayBuffer()), MANIFEST);

    const recordSets = listAt(card, 'recordSet');
    const defined = [...distribution, ...recordSets, ...recordSets.flatMap((set) => listAt(set, 'field'))].map((node) =>
      at(node, '@id'),
    );
    assert.equal(new Set(defined).size, defined.length);
    const cited = ['containedIn', 'fileObject', 'fileSet', 'references', 'key']
      .flatMap((key) => valuesOf(key, at(card, 'distribution')).concat(valuesOf(key, recordSets)))
      .flatMap((value) => valuesOf('@id', value));
    assert.ok(cited.length > 0);
    assert.deepEqual(
      cited.filter((id) => !defined.includes(id)),
      [],
    );
  });

  test('expands under JSON-LD to the terms of Croissant', async () => {
    const address = `${server.url}/datasets/kolon/croissant.json`;
    const card = await croissant(`/datasets/${datasetId}/croissant.json?version=1`);
    assert.ok(isRecord(card));
    // A strict reader: unknown terms and relative addresses are errors.
    const strict = { base: address, safe: true };
    const expanded: unknown = await jsonld.expand(card, strict);
    const nodes = nodesOf(expanded);
    const [cr, schema] = ['http://mlcommons.org/croissant/', 'https://schema.org/'];
    const ofType = (type: string): unknown[] =>
      nodes.filter((node) => isRecord(node) && [node['@type']].flat().includes(type));
    assert.deepEqual(
      [`${schema}Dataset`, `${cr}FileObject`, `${cr}FileSet`, `${cr}RecordSet`, `${cr}Field`].map(
        (type) => ofType(type).length,
      ),
      [1, 3, 1, 2, 9],
    );
    const ids = new Set(nodes.filter((node) => at(node, '@type') !== undefined).map((node) => at(node, '@id')));
    const links = ['containedIn', 'fileObject', 'fileSet', 'references', 'key'].flatMap((name) =>
      valuesOf(cr + name, expanded).flat(),
    );
    assert.ok(links.length > 0);
    assert.deepEqual(
      links.map((link) => at(link, '@id')).filter((id) => !ids.has(id)),
      [],
    );
    const dataTypes = valuesOf(`${cr}dataType`, expanded)
      .flat()
      .map((type) => at(type, '@id'));
    assert.deepEqual([...new Set(dataTypes)].sort(), [
      `${cr}Label`,
      `${cr}Split`,
      `${schema}ImageObject`,
      `${schema}Integer`,
      `${schema}Text`,
    ]);
    const conformsTo = valuesOf('http://purl.org/dc/terms/conformsTo', expanded).flat();
    assert.deepEqual(
      conformsTo.map((value) => at(value, '@value') ?? at(value, '@id')),
      ['http://mlcommons.org/croissant/1.1'],
    );
  });

  test('unknown facts are absent, even where Croissant expects them', async () => {
    const made = await server.services.datasets.create(keyHolder('ADMIN'), {
      name: 'Unknown',
      imageKind: 'WSI',
      synthetic: false,
    });
    const card = await croissant(`/datasets/${made.id}/croissant.json`);
    assert.deepEqual(
      ['license', 'creator', 'datePublished', 'citeAs', 'sameAs', 'version', 'distribution'].filter(
        (name) => at(card, name) !== undefined,
      ),
      [],
    );
    assert.equal(at(card, 'description'), 'Histopathology images (WSI).');
    assert.equal(JSON.stringify(card).includes('null'), false);
  });

  test('every dataset of the catalogue has a card, and the API gives its address', async () => {
    const answer = await server.ask('{ datasets(first: 200) { nodes { name cardUrl } } }');
    const nodes = listAt(answer, 'data.datasets.nodes');
    assert.ok(nodes.length >= 57);
    for (const node of nodes) assert.equal(at(await croissant(String(at(node, 'cardUrl'))), 'name'), at(node, 'name'));
  });

  test('finds the sealed version behind more unfinished imports than a page of versions has', async () => {
    const { count } = await database.db.datasetVersion.createMany({
      data: Array.from({ length: 201 }, (_, index) => ({ datasetId, version: 1_000 + index })),
    });
    assert.equal(at(await croissant(`/datasets/${datasetId}/croissant.json`), 'version'), '1.0.0');
    assert.equal(at(await croissant(`/datasets/${datasetId}/croissant.json?version=1`), 'version'), '1.0.0');
    assert.equal(
      (await database.db.datasetVersion.deleteMany({ where: { datasetId, version: { gte: 1_000 } } })).count,
      count,
    );
  });

  test('what does not exist is reported', async () => {
    for (const [path, status, code] of [
      [`/datasets/${datasetId}/croissant.json?version=9`, 404, 'DATASET_VERSION_NOT_FOUND'],
      [`/datasets/${datasetId}/croissant.json?version=x`, 400, 'BAD_INPUT'],
      ['/datasets/nonsense/croissant.json', 404, 'DATASET_NOT_FOUND'],
      ['/checkpoints/nonsense/README.md', 404, 'CHECKPOINT_NOT_FOUND'],
    ] as const) {
      const response = await fetch(server.url + path);
      assert.equal(response.status, status, path);
      assert.equal(at(await response.json(), 'code'), code);
    }
    assert.equal((await fetch(`${server.url}/datasets/${datasetId}/croissant.json`, { method: 'POST' })).status, 405);
  });
});

describe('a model card', () => {
  /** The front matter's lines by name. Ours are JSON, which is valid YAML. */
  function frontMatter(card: string): ReadonlyMap<string, unknown> {
    const [, head = ''] = /^---\n([\s\S]*?)\n---\n/.exec(card) ?? [];
    return new Map(
      head
        .split('\n')
        .map((line) => [line.slice(0, line.indexOf(': ')), JSON.parse(line.slice(line.indexOf(': ') + 2))]),
    );
  }

  async function cardOf(checkpointId: string): Promise<string> {
    const answer = await server.ask('query ($id: ID!) { checkpoint(id: $id) { cardUrl } }', { id: checkpointId });
    const response = await fetch(server.url + String(at(answer, 'data.checkpoint.cardUrl')));
    assert.equal(response.status, 200);
    assert.equal(response.headers.get('content-type'), 'text/markdown; charset=utf-8');
    return response.text();
  }

  test('describes the model, its training data, the preparation of an image, and its scores', async () => {
    await server.services.models.create(keyHolder('ADMIN'), {
      slug: 'kolon-encoder',
      name: 'Kólon encoder',
      licence: 'CC-BY-4.0',
    });
    const sourceRunId = await makeRun(database);
    await database.db.run.update({
      where: { id: sourceRunId },
      data: {
        config: {
          encoder: 'RESNET18',
          seed: 7,
          datasets: [{ datasetVersionId: versionId, imageCount: 6, maxImages: null }],
          initialCheckpointId: null,
        },
      },
    });
    const checkpoint = await database.transact((tx) =>
      server.services.models.registerCheckpoint(
        tx,
        newCheckpoint({
          modelSlug: 'kolon-encoder',
          sourceRunId,
          trainedOnVersionIds: [versionId],
          golden: { images: 'AAEC', embeddings: [[0.5, -1]] },
        }),
      ),
    );
    const evaluationRun = await database.db.run.create({
      data: { title: 'made by a test', kind: 'EVALUATION', config: {} },
    });
    const predictionsSha256 = (await server.store.put(Buffer.from('{}\n'))).sha256;
    await database.db.artifact.create({
      data: { sha256: predictionsSha256, byteSize: 3, mediaType: 'application/jsonl' },
    });
    await database.transact((tx) =>
      server.services.evaluations.register(tx, {
        checkpointId: checkpoint.id,
        datasetVersionId: versionId,
        protocol: 'LINEAR_PROBE',
        runId: evaluationRun.id,
        seed: 1,
        options: {},
        split: {},
        perClass: [],
        learningCurve: [
          {
            labelFraction: 0.25,
            shotsPerClass: null,
            drawCount: 10,
            trainImageCount: 12,
            metrics: [{ name: 'macroF1', value: 0.625, ci95Low: 0.5, ci95High: 0.75, drawDeviation: 0.01 }],
          },
        ],
        confusionMatrix: null,
        leakage: {
          isComplete: true,
          isUpperBound: false,
          testImageCount: 40,
          exactImageCount: 3,
          nearDuplicateImageCount: 1,
          testGroupCount: 9,
          sharedGroupCount: 2,
          sharedDatasets: ['kolon'],
          sharedCollections: [],
          unhashedVersionCount: 0,
        },
        predictionsSha256,
        ungroupedImageCount: 4,
        metrics: [{ name: 'macroF1', value: 0.8125, ci95Low: 0.75, ci95High: 0.875 }],
        baselines: [
          {
            kind: 'RANDOM_ENCODER',
            metrics: [{ name: 'macroF1', value: 0.5, ci95Low: null, ci95High: null }],
            differences: [{ name: 'macroF1', value: 0.3125, ci95Low: -0.125, ci95High: 0.5 }],
            learningCurve: [],
          },
        ],
      }),
    );
    const shown = await server.ask(
      'query ($id: ID!) { checkpoint(id: $id) { evaluations { nodes { groupsKnown intervalCaveat datasetVersion { ungroupedImageCount } } } } }',
      { id: checkpoint.id },
    );
    assert.deepEqual(listAt(shown, 'data.checkpoint.evaluations.nodes'), [
      {
        groupsKnown: false,
        intervalCaveat:
          'The patient or slide of 4 images is not known: the intervals are too narrow, and scores may be too high.',
        datasetVersion: { ungroupedImageCount: 4 },
      },
    ]);
    const card = await cardOf(checkpoint.id);
    for (const found of [
      'random encoder 0.500 (difference 0.313 [-0.125, 0.500])',
      '**It does not beat random encoder.**',
      '0.813 [0.750, 0.875], interval too narrow |',
      '**The patient or slide of 4 images is not known: the intervals are too narrow, and scores may be too high.**',
      '3 of 40 tested images were in its pretraining, and 1 more are near-duplicates; 2 of 9 groups; from the same kolon.',
      'With fewer labels: 25 % macroF1 0.625 [0.500, 0.750].',
      'gives an embedding that begins with 0.5, -1.',
    ])
      assert.ok(card.includes(found), `${found} is not in ${card}`);
    const head = frontMatter(card);
    assert.equal(head.get('license'), 'cc-by-4.0');
    assert.equal(head.get('pipeline_tag'), 'image-feature-extraction');
    assert.deepEqual(head.get('tags'), ['histopathology', 'resnet18', 'self-supervised', 'simclr']);
    assert.deepEqual(head.get('datasets'), ['kolon']);
    assert.deepEqual(head.get('model-index'), [
      {
        name: 'kolon-encoder',
        results: [
          {
            task: { type: 'image-classification', name: 'linear probe' },
            dataset: { type: 'kolon', name: `${NAME}, version 1`, revision: sha('all') },
            metrics: [{ type: 'macroF1', value: 0.8125 }],
          },
        ],
      },
    ]);
    assert.match(card, /^# Kólon encoder, version 1$/m);
    assert.ok(card.includes(`Resize to ${INPUT_CONTRACT.imageSizePx} x ${INPUT_CONTRACT.imageSizePx} px`));
    assert.match(card, /\| macroF1 \| 0\.813 \[0\.750, 0\.875\], interval too narrow \| random encoder 0\.500 \(diff/);
    assert.match(card, /"seed": 7/);
    // The name of a dataset can neither break the table nor become markup.
    assert.ok(card.includes('| Kólon «α» 大腸 \\| \\<b\\> | 1 | 6 | CC-BY-4.0 |'), card);
  });

  test('omits what is unknown: no licence, no training, no evaluation', async () => {
    const answer = await server.ask(
      '{ checkpoints(filter: { published: true }) { nodes { id importedFrom { licence } trainedOn { id } } } }',
    );
    const nodes = listAt(answer, 'data.checkpoints.nodes');
    for (const node of nodes) {
      const card = await cardOf(String(at(node, 'id')));
      const head = frontMatter(card);
      assert.equal(head.has('datasets'), false);
      assert.equal(head.has('model-index'), false);
      assert.equal(head.has('license'), at(node, 'importedFrom.licence') !== null);
      assert.equal(/## (Evaluation|Download)/.test(card), false);
    }
    const sourceRunId = await makeRun(database);
    const bare = await database.transact((tx) =>
      server.services.models.registerCheckpoint(tx, newCheckpoint({ modelSlug: 'bare', sourceRunId })),
    );
    assert.equal(frontMatter(await cardOf(bare.id)).has('license'), false);
  });
});
