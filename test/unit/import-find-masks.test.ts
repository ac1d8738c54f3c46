/** Annotation masks that cannot be recognised by their names, found by their pixels. */
import assert from 'node:assert/strict';
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, test, type TestContext } from 'node:test';
import sharp from 'sharp';
import { openArtifactStore } from '../../src/platform/artifact-store/index.ts';
import { openFolder } from '../../src/platform/open-folder.ts';
import { openImageDecoders } from '../../workers/imaging/decoder/image-decoders.ts';
import { withoutMasks, type ImageTraits } from '../../workers/imaging/find-masks.ts';
import { flatnessOf, type Flatness } from '../../workers/imaging/flatness.ts';
import { importImages, type ImportOptions } from '../../workers/imaging/import-images.ts';
import { recordIssues } from '../../workers/imaging/issues.ts';
import {
  glassPixels,
  picture,
  tissueJpeg,
  tissuePixels,
  tissuePng,
  withPenStroke,
} from '../fixtures/hostile-images.ts';
import { temporaryFolder } from '../support/shards.ts';
import type { ImportReportRecord } from '../../src/protocol/import.ts';

const SIZE_PX = 64;

/** RGB of a mask with as many classes, in rings. */
function ringPixels(sizePx: number, levels: readonly number[]): Buffer {
  const pixels = Buffer.alloc(sizePx * sizePx * 3);
  for (let index = 0; index < sizePx * sizePx; index += 1) {
    const [x, y] = [(index % sizePx) - sizePx / 2, Math.floor(index / sizePx) - sizePx / 2];
    const ring = Math.floor((Math.hypot(x, y) / sizePx) * 2 * levels.length);
    pixels.fill(levels[Math.min(ring, levels.length - 1)] ?? 0, index * 3, index * 3 + 3);
  }
  return pixels;
}

describe('what an image looks like', () => {
  const of = (data: Buffer): Flatness => flatnessOf({ data, width: SIZE_PX, height: SIZE_PX });

  test('masks of two classes, of labels near black, and after lossy compression', async () => {
    assert.equal(of(ringPixels(SIZE_PX, [255, 0])), 'MASK');
    assert.equal(of(ringPixels(SIZE_PX, [0, 1, 2, 3, 4])), 'MASK');
    const lossy = await picture(ringPixels(SIZE_PX, [255, 0]), SIZE_PX)
      .jpeg({ quality: 85 })
      .toBuffer();
    assert.ok((await sharp(lossy).stats()).channels.every(({ stdev }) => stdev > 0));
    assert.equal(of(await sharp(lossy).toColourspace('srgb').raw().toBuffer()), 'MASK');
    const webp = await picture(ringPixels(SIZE_PX, [255, 0, 255]), SIZE_PX)
      .webp({ quality: 70 })
      .toBuffer();
    assert.equal(of(await sharp(webp).toColourspace('srgb').raw().toBuffer()), 'MASK');
  });

  test('an image of one tone may be a mask or a picture', () => {
    assert.equal(of(Buffer.alloc(SIZE_PX * SIZE_PX * 3)), 'CONSTANT');
    assert.equal(of(Buffer.alloc(SIZE_PX * SIZE_PX * 3, 255)), 'CONSTANT');
  });

  test('tissue, grey tissue, tissue with few colours, glass, and pen on glass are pictures', async () => {
    for (const seed of [0, 1, 2, 3]) assert.equal(of(tissuePixels(SIZE_PX, seed)), 'PICTURE');
    const grey = picture(tissuePixels(SIZE_PX, 1), SIZE_PX).greyscale().toColourspace('srgb');
    assert.equal(of(await grey.raw().toBuffer()), 'PICTURE');
    const reduced = await picture(tissuePixels(SIZE_PX, 1), SIZE_PX).png({ palette: true, colours: 12 }).toBuffer();
    assert.equal(of(await sharp(reduced).toColourspace('srgb').removeAlpha().raw().toBuffer()), 'PICTURE');
    assert.equal(of(glassPixels(SIZE_PX)), 'PICTURE');
    const marked = await picture(withPenStroke(glassPixels(SIZE_PX), SIZE_PX, 8), SIZE_PX)
      .jpeg()
      .toBuffer();
    assert.equal(of(await sharp(marked).raw().toBuffer()), 'PICTURE');
  });
});

describe('masks are found by examining a few files of each naming pattern', () => {
  interface Found {
    readonly kept: readonly string[];
    readonly issues: readonly string[];
    readonly examined: number;
  }
  async function find(files: Readonly<Record<string, Flatness | `${Flatness} of another size`>>): Promise<Found> {
    const recorded = recordIssues();
    let examined = 0;
    const examine = async (file: string): Promise<ImageTraits> => {
      examined += 1;
      const [flatness = '', another] = (files[file] ?? '').split(' of ');
      assert.ok(flatness === 'PICTURE' || flatness === 'MASK' || flatness === 'CONSTANT');
      return { width: another === undefined ? 64 : 32, height: 64, flatness };
    };
    const kept = [...(await withoutMasks(Object.keys(files), examine, recorded))];
    const issues: string[] = [];
    recorded.replay({ add: (kind, subject, { count = 1 } = {}) => void issues.push(`${kind} ${subject} ${count}`) });
    return { kept, issues: issues.sort(), examined };
  }

  test("with any prefix or suffix of an image's name, or another extension", async () => {
    for (const mask of ['a/x_bnd.png', 'a/x-HoVer 2.png', 'a/lbl_x.png', 'a/x.png']) {
      const { kept, issues } = await find({ 'a/x.jpg': 'PICTURE', [mask]: 'MASK', 'a/y.jpg': 'PICTURE' });
      assert.deepEqual([kept, issues], [['a/x.jpg', 'a/y.jpg'], [`MASK ${mask} 1`]]);
    }
  });

  test('in a folder beside that of the images, whatever its name', async () => {
    const { kept, issues } = await find({
      ...{ 'train/img/a/1.png': 'PICTURE', 'train/img/a/2.png': 'PICTURE', 'train/bnd/a/1.png': 'MASK' },
      ...{ 'train/bnd/a/2.png': 'CONSTANT', 'train/img/b/3.png': 'PICTURE', 'train/bnd/b/3.png': 'MASK' },
    });
    assert.deepEqual(kept, ['train/img/a/1.png', 'train/img/a/2.png', 'train/img/b/3.png']);
    assert.deepEqual(issues, ['MASK train/bnd/a/1.png 1', 'MASK train/bnd/a/2.png 1', 'MASK train/bnd/b/3.png 1']);
  });

  test("photographs whose names extend another file's name are images", async () => {
    const files = {
      'a/x.png': 'PICTURE',
      'a/x_1.png': 'PICTURE',
      'a/x_2.png': 'PICTURE',
      'b/x.png': 'PICTURE',
    } as const;
    const { kept, issues } = await find(files);
    assert.deepEqual([kept.length, issues], [4, []]);
  });

  test('without their images, or with another size, they need an answer', async () => {
    const alone = await find({ 'a/1.png': 'PICTURE', 'b/7.png': 'MASK', 'b/8.png': 'MASK' });
    assert.deepEqual([alone.kept.length, alone.issues], [3, ['MASKS_AMONG_IMAGES b/7.png 2']]);
    const smaller = await find({ 'a/x.png': 'PICTURE', 'a/x_bnd.png': 'MASK of another size' });
    assert.deepEqual([smaller.kept.length, smaller.issues], [2, ['MASKS_AMONG_IMAGES a/x_bnd.png 1']]);
    const nothingElse = await find({ '1.png': 'MASK', '2.png': 'MASK' });
    assert.deepEqual(nothingElse.issues, ['MASKS_AMONG_IMAGES 1.png 2']);
  });

  test('files named as masks, without an image, need an answer whatever they look like', async () => {
    const { kept, issues } = await find({
      ...{ 'a/x_mask.png': 'PICTURE', 'b/x.png': 'PICTURE', 'masks/1.png': 'PICTURE', 'images/2.png': 'PICTURE' },
      ...{ 'unmasked/3.png': 'PICTURE', 'Ground Truth/9.png': 'PICTURE' },
    });
    assert.equal(kept.length, 6);
    assert.deepEqual(issues, [
      'MASKS_AMONG_IMAGES Ground Truth/9.png 1',
      'MASKS_AMONG_IMAGES a/x_mask.png 1',
      'MASKS_AMONG_IMAGES masks/1.png 1',
    ]);
  });

  test('a class of blank images is a class', async () => {
    const { issues } = await find({ 'empty/1.png': 'CONSTANT', 'empty/2.png': 'CONSTANT', 'a/3.png': 'PICTURE' });
    assert.deepEqual(issues, []);
  });

  test('in a large folder of photographs only a few files are examined', async () => {
    const names = Array.from({ length: 5_000 }, (_, index) => [`${index % 7}/p_${index}_x.png`, 'PICTURE'] as const);
    const { kept, issues, examined } = await find(Object.fromEntries(names));
    assert.deepEqual([kept.length, issues], [5_000, []]);
    assert.ok(examined <= 8, `${examined}`);
  });
});

describe('in an import', () => {
  async function report(
    context: TestContext,
    options: Partial<ImportOptions>,
    files: Readonly<Record<string, Buffer>>,
  ) {
    const base = await temporaryFolder(context);
    const folder = path.join(base, 'images');
    for (const [name, bytes] of Object.entries(files)) {
      await mkdir(path.dirname(path.join(folder, name)), { recursive: true });
      await writeFile(path.join(folder, name), bytes);
    }
    const reports: ImportReportRecord[] = [];
    await using opened = await openFolder(folder);
    await using decoders = openImageDecoders({ hiddenFolder: base, processCount: 1 });
    await importImages({
      ...{ folder: opened, layout: 'FOLDER_PER_LABEL', labelsCsv: null, patchSizePx: null, isDryRun: true },
      ...{ artifacts: openArtifactStore(path.join(base, 'artifacts')), workDir: base, decoders },
      onReport: async (found) => void reports.push(found),
      ...options,
    });
    const [found] = reports;
    assert.ok(found !== undefined);
    return found;
  }
  const mask = (): Promise<Buffer> =>
    picture(ringPixels(SIZE_PX, [255, 0]), SIZE_PX)
      .png()
      .toBuffer();

  test('masks with unknown names are not images, and their folder is not a label', async (context) => {
    const { labelCounts, issues, questions } = await report(
      context,
      {},
      {
        ...{ 'tumour/1.png': await tissuePng(SIZE_PX, 1), 'tumour/2.jpg': await tissueJpeg(SIZE_PX, 2) },
        ...{ 'tumour/1_bnd.png': await mask(), 'tumour/2.png': await mask() },
        ...{ 'stroma/3.png': await tissuePng(SIZE_PX, 3), 'stroma/4.png': await tissuePng(SIZE_PX, 4) },
        ...{ 'nuclei/3.png': await mask(), 'nuclei/4.png': await mask() },
      },
    );
    assert.deepEqual(labelCounts, [
      { label: 'stroma', count: 2 },
      { label: 'tumour', count: 2 },
    ]);
    assert.equal(issues.find(({ kind }) => kind === 'MASK')?.count, 4);
    assert.deepEqual(questions, []);
  });

  test('without images nothing is sealed until the question is answered', async (context) => {
    const files = {
      ...{ 'tumour/1.png': await tissuePng(SIZE_PX, 1), 'tumour/2.png': await tissuePng(SIZE_PX, 2) },
      ...{
        'nuclei/7.png': await mask(),
        'nuclei/8.png': await picture(ringPixels(SIZE_PX, [0, 255]), SIZE_PX)
          .png()
          .toBuffer(),
      },
    };
    assert.deepEqual((await report(context, {}, files)).questions, ['MASKS_AMONG_IMAGES']);
    await assert.rejects(report(context, { isDryRun: false }, files), {
      code: 'IMPORT_NEEDS_ANSWER',
      message: /MASKS_AMONG_IMAGES.*nuclei\/7\.png/,
    });
    const accepted = await report(context, { isDryRun: false, accept: ['MASKS_AMONG_IMAGES'] }, files);
    assert.equal(accepted.imageCount, 4);
  });
});
