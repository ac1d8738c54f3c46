/** The meaning of folders: wrappers, splits, labels, groups, masks. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { readFolderLayout, type FolderLayoutOptions } from '../../workers/imaging/folder-layout.ts';
import { recordIssues } from '../../workers/imaging/issues.ts';
import { masksAmong } from '../../workers/imaging/masks.ts';

interface Read {
  /** Label, split and group by path; `-` if one is unknown. */
  readonly images: Readonly<Record<string, string>>;
  readonly issues: readonly string[];
  readonly notes: string;
}

function read(files: readonly string[], options: Partial<FolderLayoutOptions> = {}, emptyFolders: string[] = []): Read {
  const recorded = recordIssues();
  const { sources, notes } = readFolderLayout(
    { files: [...files].sort(), emptyFolders, passedOver: [] },
    { labelled: true, labelLevel: null, groupLevel: null, ...options },
    recorded,
  );
  const issues: string[] = [];
  recorded.replay({ add: (kind, subject) => void issues.push(`${kind} ${subject}`) });
  return {
    images: Object.fromEntries(
      Array.from(sources, ({ relativePath, label, split, group }) => [
        relativePath,
        [label, split, group].map((value) => value ?? '-').join(' '),
      ]),
    ),
    issues,
    notes: notes.join(' '),
  };
}

describe('labels', () => {
  test('are the first folders', () => {
    const { images, issues } = read(['a/1.png', 'b/2.png', 'b/deep/3.png', 'outside.png']);
    assert.deepEqual(images, {
      'a/1.png': 'a - -',
      'b/2.png': 'b - -',
      'b/deep/3.png': 'b - -',
      'outside.png': '- - -',
    });
    assert.deepEqual(issues, []);
  });

  test('with two indistinguishable spellings are one label, and a missing value is not a label', () => {
    const { images, notes } = read(['La\u0308sion/1.png', 'L\u00E4sion/2.png', 'tumour /3.png', 'NA/4.png']);
    assert.deepEqual(images, {
      'La\u0308sion/1.png': 'L\u00E4sion - -',
      'L\u00E4sion/2.png': 'L\u00E4sion - -',
      'tumour /3.png': 'tumour - -',
      'NA/4.png': '- - -',
    });
    assert.match(notes, /"Läsion" is written in 2 ways/);
  });

  test('lie within single wrapper folders, as archives are unpacked into them', () => {
    const { images, notes } = read(['set_v1/images/a/1.png', 'set_v1/images/b/2.png']);
    assert.deepEqual(images, { 'set_v1/images/a/1.png': 'a - -', 'set_v1/images/b/2.png': 'b - -' });
    assert.match(notes, /"set_v1" is the only one.*"images" is the only one/);
  });

  test('are the same with a document or an image beside the wrapper', () => {
    const { images } = read(['set/a/1.png', 'set/b/2.png', 'set/about.docx', 'weights.h5', 'cover.png']);
    assert.deepEqual([images['set/a/1.png'], images['set/b/2.png'], images['cover.png']], ['a - -', 'b - -', '- - -']);
  });

  test('a single folder with images in it is a label, not a wrapper', () => {
    assert.deepEqual(read(['a/1.png', 'a/x/2.png']).images, { 'a/1.png': 'a - -', 'a/x/2.png': 'a - -' });
  });

  test('a label folder without an image is reported, a deeper one is not', () => {
    assert.deepEqual(read(['a/1.png', 'b/2.png'], {}, ['Empty', 'a/nothing']).issues, ['EMPTY_LABEL_FOLDER Empty']);
    assert.deepEqual(read(['train/a/1.png', 'test/a/2.png'], {}, ['train/b']).issues, ['EMPTY_LABEL_FOLDER train/b']);
  });

  test('may be deeper if label folders contain only folders, which needs an answer', () => {
    const files = ['lung/aca/1.png', 'lung/n/2.png', 'colon/aca/3.png', 'colon/n/4.png'];
    assert.deepEqual(read(files).issues, [
      'LABELS_MAY_BE_DEEPER colon/aca',
      'LABELS_MAY_BE_DEEPER colon/n',
      'LABELS_MAY_BE_DEEPER lung/aca',
      'LABELS_MAY_BE_DEEPER lung/n',
    ]);
    const deeper = read(files, { labelLevel: 2 });
    assert.deepEqual([deeper.images['colon/aca/3.png'], deeper.issues], ['aca - -', []]);
    const patients = read(files, { groupLevel: 2 });
    assert.deepEqual([patients.images['colon/aca/3.png'], patients.issues], ['colon - aca', []]);
  });

  test('need no answer if they contain TCGA patients', () => {
    const { images, issues } = read(['LUAD/TCGA-AB-0001/1.png', 'LUAD/TCGA-AB-0002/2.png', 'LUSC/tcga_cd_0003/3.png']);
    assert.deepEqual(issues, []);
    assert.equal(images['LUSC/tcga_cd_0003/3.png'], 'LUSC - TCGA-CD-0003');
  });

  test('do not exist in layout FLAT', () => {
    assert.deepEqual(read(['a/1.png', 'train/TCGA-AB-0001.png'], { labelled: false }).images, {
      'a/1.png': '- - -',
      'train/TCGA-AB-0001.png': '- - TCGA-AB-0001',
    });
  });
});

describe('splits', () => {
  test('above the labels, within a wrapper', () => {
    const { images, notes, issues } = read(['w/Train/a/1.png', 'w/val/a/2.png', 'w/TEST/b/3.png', 'w/test/b/4.png']);
    assert.deepEqual(images, {
      'w/Train/a/1.png': 'a train -',
      'w/val/a/2.png': 'a validation -',
      'w/TEST/b/3.png': 'b test -',
      'w/test/b/4.png': 'b test -',
    });
    assert.match(notes, /The folders TEST, Train, test, val are splits\./);
    assert.deepEqual(issues, []);
  });

  test('below the labels, and above their own wrapper', () => {
    assert.deepEqual(read(['a/train/1.png', 'b/test/2.png']).images, {
      'a/train/1.png': 'a train -',
      'b/test/2.png': 'b test -',
    });
    assert.deepEqual(read(['train/images/a/1.png', 'test/images/b/2.png']).images, {
      'train/images/a/1.png': 'a train -',
      'test/images/b/2.png': 'b test -',
    });
  });

  test('a single one is a wrapper, because it divides nothing', () => {
    assert.deepEqual(read(['train/a/1.png', 'train/b/2.png']).images, {
      'train/a/1.png': 'a - -',
      'train/b/2.png': 'b - -',
    });
  });

  test('beside folders that are not splits need an answer', () => {
    const { issues } = read(['train/a/1.png', 'test/a/2.png', 'more/a/3.png']);
    assert.ok(issues.includes('SPLITS_AMONG_LABELS train') && issues.includes('SPLITS_AMONG_LABELS test'));
  });

  test('are found on another level than the one that the user named', () => {
    assert.deepEqual(read(['train/p1/a/1.png', 'test/p2/b/2.png'], { labelLevel: 3, groupLevel: 2 }).images, {
      'train/p1/a/1.png': 'a train p1',
      'test/p2/b/2.png': 'b test p2',
    });
  });
});

describe('masks', () => {
  const masks = (...files: string[]): (string | undefined)[] =>
    Array.from(masksAmong(files), (place) => files[place]).sort();

  test('are named after an image beside them', () => {
    assert.deepEqual(masks('b/train_0.bmp', 'b/train_0_anno.bmp'), ['b/train_0_anno.bmp']);
    assert.deepEqual(masks('m (0).png', 'm (0)_mask.png', 'm (0)_mask_1.png'), ['m (0)_mask.png', 'm (0)_mask_1.png']);
    assert.deepEqual(masks('x.tif', 'x-Mask.png', 'x.seg.png'), ['x-Mask.png', 'x.seg.png']);
    assert.deepEqual(masks('mask_7.png', 'img_7.png'), ['mask_7.png']);
  });

  test('lie in a folder of masks beside the folder of images', () => {
    assert.deepEqual(masks('images/1.png', 'masks/1.png'), ['masks/1.png']);
    assert.deepEqual(masks('train/images/a/1.png', 'train/GT/a/1.tif'), ['train/GT/a/1.tif']);
    assert.deepEqual(masks('benign/1.png', 'Ground Truth/1_mask.png'), ['Ground Truth/1_mask.png']);
    assert.deepEqual(masks('train_images/a1.tiff', 'train_label_masks/a1_mask.tiff'), [
      'train_label_masks/a1_mask.tiff',
    ]);
    assert.deepEqual(masks('set/GT_01/01_1.png', 'set/Slide_01/01_1.png'), ['set/GT_01/01_1.png']);
  });

  test('are not images without a partner, nor classes with unusual names', () => {
    assert.deepEqual(masks('a/x_mask.png', 'b/x.png'), []);
    assert.deepEqual(masks('seg/1.png', 'mono/1.png'), []);
    assert.deepEqual(masks('masks/1.png', 'images/2.png'), []);
    assert.deepEqual(masks('a/tissue.png', 'a/unmask.png'), []);
  });
});
