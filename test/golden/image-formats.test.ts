/**
 * Every row of the table of formats in docs/importing.md, by files that image_formats_oracle.py made: they decode to
 * what tifffile and Pillow read of them, or are refused under the kind that the table says; and what is stored means
 * the same to a reader that has no part in the import.
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, test } from 'node:test';
import sharp from 'sharp';
import { z } from 'zod';
import { scoped, tf } from '../../workers/engine/tensorflow.ts';
import { foreignKindOf } from '../../workers/imaging/formats/foreign-formats.ts';
import { ISSUE_KINDS } from '../../workers/imaging/issues.ts';
import type { PreparedImage } from '../../workers/imaging/decoder/prepare.ts';
import { prepare } from '../support/prepared-image.ts';

const rowSchema = z.object({ row: z.string(), name: z.string(), bytes: z.base64() });
const caseSchema = z.union([
  rowSchema.extend({ issue: z.string() }),
  rowSchema.extend({
    ...{ width: z.number(), height: z.number(), rgb: z.base64() },
    ...{ notes: z.array(z.string()), tolerance: z.number() },
  }),
]);
const cases = z
  .array(caseSchema)
  .parse(JSON.parse(await readFile(path.join(import.meta.dirname, 'image-formats-expected.json'), 'utf8')));

/** TensorFlow brings its own libpng and libjpeg; for WebP there is no other reader than libvips. */
async function decodeIndependently({ bytes, extension }: PreparedImage): Promise<Buffer> {
  if (extension === 'webp') return sharp(bytes).toColourspace('srgb').raw().toBuffer();
  return scoped(() => {
    const decoded =
      extension === 'png'
        ? tf.node.decodePng(bytes, 3)
        : tf.node.decodeJpeg(bytes, 3, 1, true, false, 1, 'INTEGER_ACCURATE');
    return Buffer.from(Uint8Array.from(decoded.dataSync()));
  });
}

function greatestDifference(a: Buffer, b: Buffer): number {
  assert.equal(a.length, b.length);
  return a.reduce((greatest, level, index) => Math.max(greatest, Math.abs(level - (b[index] ?? 0))), 0);
}

describe('every row of the table of formats', () => {
  for (const each of cases) {
    test(`${each.row} (${each.name})`, async () => {
      const bytes = Buffer.from(each.bytes, 'base64');
      const prepared = await prepare(bytes);
      if ('issue' in each) {
        assert.ok(prepared.outcome === 'REFUSED', 'it was imported');
        assert.equal(foreignKindOf(bytes) ?? prepared.finding.issue, each.issue);
        assert.ok(each.issue in ISSUE_KINDS);
        return;
      }
      assert.ok(prepared.outcome === 'PREPARED', 'finding' in prepared ? JSON.stringify(prepared.finding) : '');
      assert.deepEqual(
        prepared.notes.map(({ issue }) => issue),
        each.notes,
      );
      assert.ok(prepared.notes.every(({ reason }) => (reason ?? '').length > 20));
      const [image] = prepared.images;
      assert.ok(image !== undefined && prepared.images.length === 1);
      assert.deepEqual([image.width, image.height], [each.width, each.height]);
      const pixels = await decodeIndependently(image);
      assert.ok(greatestDifference(pixels, Buffer.from(each.rgb, 'base64')) <= each.tolerance);
      assert.deepEqual(createHash('sha256').update(pixels).digest(), image.pixelDigest);
      // As readers that apply profiles see it.
      const managed = await sharp(image.bytes, { failOn: 'warning' }).toColourspace('srgb').raw().toBuffer();
      assert.ok(managed.equals(pixels));
      const { icc, orientation = 1 } = await sharp(image.bytes).metadata();
      assert.deepEqual([icc, orientation], [undefined, 1]);
    });
  }
});

test('the table of the docs has these rows, each with the outcome that the files have', async () => {
  const docs = await readFile(path.join(import.meta.dirname, '../../docs/importing.md'), 'utf8');
  const [, section = ''] = /\n## Formats\n(.*?)\n## /s.exec(docs) ?? [];
  const stated = [...section.matchAll(/^\| ([^|]+) \| ([^|]+) \|$/gm)].map(([, row = '', outcome = '']) => [
    row.trim(),
    /`([A-Z_0-9]+)`, left out/.exec(outcome)?.[1] ?? 'read',
  ]);
  const found = new Map(
    cases.map((each) => [each.row, 'issue' in each && !each.issue.startsWith('IS_') ? each.issue : 'read']),
  );
  const foreign = new Set(
    cases.filter((each) => 'issue' in each && each.issue.startsWith('IS_')).map(({ row }) => row),
  );
  const rows = stated.filter(([row]) => row !== 'what' && !/^-+$/.test(row ?? ''));
  assert.deepEqual(
    rows.filter(([row]) => !foreign.has(row ?? '')).sort(),
    [...found].filter(([row]) => !foreign.has(row)).sort(),
  );
  for (const row of foreign) assert.ok(section.includes(`| ${row} |`), row);
});
