/** The pure parts of `npm run scale`: sizes, growth, the tables of the page. */
import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import sharp from 'sharp';
import { createTissueImages, pathOfImage } from '../../scale/images.ts';
import { diskNeedOf, roomFault } from '../../scale/plan.ts';
import { growthOf, writeReport, type ScaleReport } from '../../scale/report.ts';

const MACHINE = { cpu: 'a processor', cores: 2, memoryGigabytes: 8, node: 'v24.0.0' };

function reportOf(imageCount: number, parts: ScaleReport['parts']): ScaleReport {
  return {
    ...{ startedAt: '2026-11-30T00:00:00.000Z', machine: MACHINE, loadAverage: { before: 0, after: 1 }, parts },
    ...{ command: `npm run scale -- --images ${imageCount}`, isManifestOnly: false },
    ...{ size: { imageCount, testImageCount: 1000, seed: 1 } },
  };
}

/** A cost of the images to the power of `exponent`. */
function partOf(name: string, imageCount: number, exponent: number): ScaleReport['parts'][number] {
  const cost = 1000 * (imageCount / 1000) ** exponent;
  return {
    ...{ name, imageCount, durationMs: cost, processorMs: 3 * cost, storedBytes: 1 },
    peakBytes: { RUN: 1e8 * (imageCount / 1000) ** (exponent / 2), SERVER: 5 },
  };
}

test('growth is the exponent of a power law, and undefined for one number of images', () => {
  const runs = [1000, 10_000, 100_000].map((count) =>
    reportOf(count, [partOf('linear', count, 1), partOf('quadratic', count, 2), partOf('fixed', 1000, 1)]),
  );
  const growth = growthOf(runs);
  assert.deepEqual(
    growth.map(({ name, fromImageCount, toImageCount }) => [name, fromImageCount, toImageCount]),
    [
      ['linear', 1000, 100_000],
      ['quadratic', 1000, 100_000],
    ],
  );
  for (const [place, exponent] of [1, 2].entries()) {
    const { timeExponent, processorExponent, memoryExponent } = growth[place] ?? assert.fail();
    assert.ok(Math.abs(timeExponent - exponent) < 1e-9);
    assert.ok(Math.abs(processorExponent - exponent) < 1e-9);
    assert.ok(Math.abs((memoryExponent ?? NaN) - exponent / 2) < 1e-9);
  }
});

test('a report replaces that of the same size and keeps the others, between the markers of the page', async (t) => {
  const folder = await mkdtemp(path.join(tmpdir(), 'paraffin-scale-report-'));
  t.after(() => rm(folder, { recursive: true }));
  const page = path.join(folder, 'page.md');
  const real = await readFile(path.resolve(import.meta.dirname, '../../docs/benchmarks.md'), 'utf8');
  const markers = real.match(/<!-- scale: .*? -->/g) ?? [];
  assert.equal(markers.length, 2);
  await writeFile(page, `before\n\n${markers.join('\nold tables\n')}\n\nafter\n`);
  await writeReport(page, reportOf(10_000, [partOf('import', 10_000, 1)]));
  await writeReport(page, reportOf(1000, [partOf('import', 1000, 1)]));
  await writeReport(page, reportOf(10_000, [partOf('import', 10_000, 1.5)]));
  const text = await readFile(page, 'utf8');
  assert.match(text, /^before\n\n<!--/);
  assert.match(text, /-->\n\nafter\n$/);
  assert.doesNotMatch(text, /old tables/);
  assert.equal(text.match(/npm run scale -- --images 10000`/g)?.length, 1);
  assert.match(text, /\| import \| 1000 \| 10000 \| 1\.50 \|/);
  await writeFile(page, 'a page without markers');
  await assert.rejects(writeReport(page, reportOf(1000, [])), /no markers/);
});

test('the same number draws the same pixels, and another number or seed others; JPEGs are of 64 px', async () => {
  const [one, other] = [createTissueImages(1), createTissueImages(2)];
  const first = await one.encode(5);
  assert.deepEqual(await one.encode(5), first);
  const different = [await one.encode(6), await one.encode(9), await other.encode(5)];
  for (const bytes of different) assert.notDeepEqual(bytes, first);
  const { width, height, format } = await sharp(first).metadata();
  assert.deepEqual({ width, height, format }, { width: 64, height: 64, format: 'jpeg' });
});

test('every patient has images of every label', () => {
  const folders = new Set(Array.from({ length: 400 }, (_, place) => path.dirname(pathOfImage(place))));
  assert.equal(folders.size, 2 * 4);
});

test('a disk with too few bytes or too few files is refused with what is missing', () => {
  const need = diskNeedOf({ imageCount: 1_000_000, testImageCount: 100_000, seed: 1 });
  const room = { freeBytes: need.byteSize, freeFileCount: need.fileCount };
  assert.equal(roomFault('/x', need, room), undefined);
  assert.equal(roomFault('/x', need, { ...room, freeFileCount: undefined }), undefined);
  assert.match(roomFault('/x', need, { ...room, freeBytes: need.byteSize - 1 }) ?? '', /are free.*--dir/);
  assert.match(roomFault('/x', need, { ...room, freeFileCount: need.fileCount - 1 }) ?? '', /has room for.*--dir/);
});
