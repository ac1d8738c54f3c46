/** When two embeddings are the same, and the CSV that accompanies them. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parse } from 'csv-parse/sync';
import { INPUT_CONTRACT } from '../support/checkpoints.ts';
import { idsCsvChunks } from '../../src/formats/embedding-ids.ts';
import { preparationDigestOf } from '../../src/protocol/embeddings.ts';

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
  const rows: unknown = parse(Buffer.concat([...idsCsvChunks(images)]), { columns: true });
  assert.deepEqual(rows, [
    { key: '000000000', label: 'tumour, "grade 2"', group: 'patient\n7', split: '', sourcePath: 'a/b.png' },
    { key: '000000001', label: '', group: '', split: 'test', sourcePath: '' },
  ]);
});

test('the CSV of many images comes in chunks of whole lines', () => {
  const images = Array.from({ length: 2_500 }, (_, row) => ({
    key: String(row).padStart(9, '0'),
    label: 'é',
    group: null,
    split: null,
    sourcePath: null,
  }));
  const chunks = [...idsCsvChunks(images)];
  assert.ok(chunks.length > 2 && chunks.every((chunk) => chunk.toString().endsWith('\r\n')));
  const rows: { readonly key: string }[] = parse(Buffer.concat(chunks), { columns: true });
  assert.deepEqual(
    rows.map(({ key }) => key),
    images.map(({ key }) => key),
  );
});
