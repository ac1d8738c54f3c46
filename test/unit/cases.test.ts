/** The verdicts of `npm run cases`, and the truth that it reads. */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, test } from 'node:test';
import { readTruth } from '../../compat/cases/truth.ts';
import { compareWithTruth, type FileOutcome, type RgbImage } from '../../compat/cases/verdict.ts';
import { writeNpy } from '../../src/formats/npy.ts';
import { writeStoredZip } from '../../src/formats/stored-zip.ts';
import { temporaryFolder } from '../support/shards.ts';

const imageOf = (...levels: readonly number[]): RgbImage => ({
  ...{ width: levels.length / 3, height: 1 },
  data: Uint8Array.from(levels),
});
const outcome = (image: RgbImage | null, more: Partial<FileOutcome> = {}): FileOutcome => ({
  ...{ image, matchesDigest: true, issues: [], isLossy: false },
  ...more,
});
const truncated = { kind: 'TRUNCATED', kept: false, reason: 'It ends early.', relatedPath: null };

describe('the comparison with the truth', () => {
  const truth = imageOf(10, 20, 30, 40, 50, 60);
  test('equal, within the error of rounding, and wrong beyond it', () => {
    assert.equal(compareWithTruth(outcome(truth), truth).verdict, 'equal');
    assert.equal(compareWithTruth(outcome(imageOf(12, 20, 30, 40, 50, 60)), truth).verdict, "within the codec's error");
    assert.equal(compareWithTruth(outcome(imageOf(13, 20, 30, 40, 50, 60)), truth).verdict, 'wrong');
  });

  test('a lossy codec may differ more in a few pixels, but not on average', () => {
    const few = outcome(imageOf(20, 20, 30, 40, 50, 60), { isLossy: true });
    assert.equal(compareWithTruth(few, truth).verdict, "within the codec's error");
    assert.equal(compareWithTruth(outcome(imageOf(15, 25, 35, 45, 55, 65), { isLossy: true }), truth).verdict, 'wrong');
    assert.equal(compareWithTruth(outcome(imageOf(43, 20, 30, 40, 50, 60), { isLossy: true }), truth).verdict, 'wrong');
  });

  test('a different size is wrong, and so are bytes that do not decode to the digest', () => {
    assert.match(compareWithTruth(outcome(imageOf(10, 20, 30)), truth).detail, /1 x 1 px instead of 2 x 1/);
    assert.equal(compareWithTruth(outcome(imageOf(10, 20, 30)), truth).verdict, 'wrong');
    assert.equal(compareWithTruth(outcome(truth, { matchesDigest: false }), truth).verdict, 'wrong');
  });

  test('a file that is left out is refused if there is a reason, and wrong if there is none', () => {
    const refused = compareWithTruth(outcome(null, { issues: [truncated] }), truth);
    assert.deepEqual(refused, { verdict: 'refused', detail: 'TRUNCATED: It ends early.' });
    assert.equal(compareWithTruth(outcome(null), truth).verdict, 'wrong');
  });

  test('without a truth the verdict is neither equal nor wrong', () => {
    assert.equal(compareWithTruth(outcome(truth), undefined).verdict, 'no truth');
  });
});

test('the truth is read by file name; the value after a profile takes precedence, and entries that are not RGB uint8 are reported', async (context) => {
  const npzPath = path.join(await temporaryFolder(context), 'truth.npz');
  const rgb = (level: number): Uint8Array => writeNpy({ shape: [1, 2, 3], data: new Uint8Array(6).fill(level) });
  const entries = [
    { name: 'a.png.npy', data: rgb(1) },
    { name: 'icc.png.npy', data: rgb(2) },
    { name: 'grey.png.npy', data: writeNpy({ shape: [2, 2], data: new Uint8Array(4) }) },
    { name: 'float.png.npy', data: writeNpy({ shape: [1, 1, 3], data: new Float32Array(3) }) },
  ];
  const archive = Buffer.from(writeStoredZip([...entries, { name: 'CONV_icc.png.npy', data: rgb(3) }], 1));
  // numpy writes names unchanged; our zip writer accepts only plain names.
  for (let at = archive.indexOf('CONV_'); at >= 0; at = archive.indexOf('CONV_', at)) archive.write('CONV:', at);
  await writeFile(npzPath, archive);
  const truth = await readTruth(npzPath);
  assert.deepEqual(truth.images.get('a.png'), { width: 2, height: 1, data: new Uint8Array(6).fill(1) });
  assert.deepEqual(truth.images.get('icc.png')?.data, new Uint8Array(6).fill(3));
  assert.deepEqual([...truth.unreadable].sort(), ['float.png', 'grey.png']);
});
