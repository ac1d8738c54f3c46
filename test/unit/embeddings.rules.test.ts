/** When two embeddings are the same, and the CSV that accompanies them. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parse } from 'csv-parse/sync';
import { idsCsvOf, preparationDigestOf } from '../../src/modules/embeddings/embeddings.rules.ts';
import { INPUT_CONTRACT } from '../support/checkpoints.ts';

test('a preparation has another digest exactly if it changes a pixel', () => {
  const digest = preparationDigestOf(INPUT_CONTRACT);
  assert.match(digest, /^[0-9a-f]{64}$/);
  assert.equal(preparationDigestOf({ ...INPUT_CONTRACT, micronsPerPixelMin: 1 }), digest);
  const changes = [
    { imageSizePx: 96 },
    { resizeRule: 'STRETCH' },
    { channelOrder: 'BGR' },
    { valueRange: [0, 255] },
    { channelMean: [0.5, 0.5, 0.4] },
    { channelStd: [1, 1, 1] },
  ] as const;
  const others = changes.map((change) =>
    preparationDigestOf({
      ...INPUT_CONTRACT,
      ...change,
      valueRange: 'valueRange' in change ? [...change.valueRange] : [0, 1],
      channelMean: 'channelMean' in change ? [...change.channelMean] : [0.5, 0.5, 0.5],
      channelStd: 'channelStd' in change ? [...change.channelStd] : [0.5, 0.5, 0.5],
    }),
  );
  assert.equal(new Set([digest, ...others]).size, changes.length + 1);
});

test('any label and path can be read back from the CSV', () => {
  const images = [
    { key: '000000000', label: 'tumour, "grade 2"', group: 'patient\n7', split: null, sourcePath: 'a/b.png' },
    { key: '000000001', label: null, group: null, split: 'test', sourcePath: null },
  ];
  const rows: unknown = parse(idsCsvOf(images), { columns: true });
  assert.deepEqual(rows, [
    { key: '000000000', label: 'tumour, "grade 2"', group: 'patient\n7', split: '', sourcePath: 'a/b.png' },
    { key: '000000001', label: '', group: '', split: 'test', sourcePath: '' },
  ]);
});
