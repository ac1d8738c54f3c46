/** The catalogue of published encoders: its networks against the parameter counts that others state, and its faults. */
import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { describeEncoder, parameterCountOf } from '../../src/formats/encoders/index.ts';
import { loadPublishedCheckpoints } from '../../src/modules/models/index.ts';
import { at, listAt } from '../support/catalogue.ts';

/**
 * Millions of parameters as `param_size` of rendeirolab/lazyslide-models states them (20 November 2026), and for
 * torchvision as `num_params` of its weights without the classifier: 11,689,512 - 513,000, 21,797,672 - 513,000,
 * 25,557,032 - 2,049,000, 44,549,160 - 2,049,000.
 */
const PARAMETERS_M: Readonly<Record<string, number>> = {
  'lunit-vits8-dino': 21.7,
  phikon: 85.8,
  'phikon-v2': 303.4,
  'h0-mini': 85.7,
  uni: 303.4,
  'uni2-h': 681.4,
  virchow: 631.2,
  virchow2: 631.2,
  'hibou-b': 85.7,
  'torchvision-resnet18': 11.2,
  'torchvision-resnet34': 21.3,
  'torchvision-resnet50': 23.5,
  'torchvision-resnet101': 42.5,
};
/** Those that are stated in thousands of millions. */
const PARAMETERS_B: Readonly<Record<string, number>> = {
  'midnight-12k': 1.14,
  'h-optimus-0': 1.13,
  'h-optimus-1': 1.13,
  'prov-gigapath': 1.13,
};
const FILE = path.resolve(import.meta.dirname, '../../prisma/published-checkpoints.json');

let folder = '';
before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'paraffin-published-'));
});
after(() => rm(folder, { recursive: true, force: true }));

async function parameterCounts(): Promise<Map<string, number>> {
  return new Map(
    (await loadPublishedCheckpoints()).map(({ slug, architecture }) => [
      slug,
      parameterCountOf(describeEncoder(architecture)),
    ]),
  );
}

test('the networks have as many parameters as others count in the published files', async () => {
  const counts = await parameterCounts();
  for (const [slug, millions] of Object.entries(PARAMETERS_M))
    assert.equal(((counts.get(slug) ?? 0) / 1e6).toFixed(1), millions.toFixed(1), slug);
  for (const [slug, billions] of Object.entries(PARAMETERS_B))
    assert.ok(Math.abs((counts.get(slug) ?? 0) / 1e9 - billions) < 0.006, `${slug}: ${counts.get(slug)}`);
});

test('every checkpoint has an open address or a place to ask, or says why it has neither', async () => {
  for (const { slug, description, importedFrom } of await loadPublishedCheckpoints()) {
    const { url, accessUrl } = importedFrom;
    assert.ok(url === null || accessUrl === null, `${slug} is both open and on request`);
    if (url === null && accessUrl === null) assert.match(description, /name of the file is not known/, slug);
  }
});

describe('a faulty catalogue is refused with the name of the entry', () => {
  const faultOf = async (change: (catalogue: unknown) => void): Promise<string> => {
    const catalogue: unknown = JSON.parse(await readFile(FILE, 'utf8'));
    change(catalogue);
    const file = path.join(folder, 'faulty.json');
    await writeFile(file, JSON.stringify(catalogue));
    return loadPublishedCheckpoints(file).then(
      () => assert.fail('the catalogue was read'),
      (error: unknown) => String(error),
    );
  };
  const first = (catalogue: unknown): object => {
    const entry = at(catalogue, 'groups.0.checkpoints.0');
    assert.ok(typeof entry === 'object' && entry !== null);
    return entry;
  };
  for (const [what, change, expected] of [
    ['two entries with one name', (c: unknown) => listAt(c, 'groups.0.checkpoints').push(first(c)), /two entries have/],
    [
      'a network that no family builds',
      (c: unknown) => Object.assign(first(c), { architecture: { family: 'SWIN', specification: {} } }),
      /ciga-resnet18-lightning: No encoder family is called SWIN/,
    ],
    [
      'a pooling that the network lacks',
      (c: unknown) =>
        Object.assign(first(c), {
          inputContract: Object.assign({}, at(c, 'groups.0.inputContract'), { pooling: 'CLS' }),
        }),
      /ciga-resnet18-lightning: RESNET18 has no pooling CLS/,
    ],
    [
      'a fact without evidence',
      (c: unknown) =>
        Object.assign(first(c), { trainingFacts: [{ name: 'epochs', value: '1000', evidence: null, sources: [] }] }),
      /a known value needs evidence/,
    ],
    ['an address that is not https', (c: unknown) => Object.assign(first(c), { url: 'http://example.org/a' }), /url/],
  ] as const)
    test(what, async () => assert.match(await faultOf(change), expected));
});
