/** How the text of labels, splits and barcodes is read. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { lookAlikes, mergedSpellings, normaliseText, valueOf } from '../../workers/imaging/label-text.ts';
import { splitOf } from '../../workers/imaging/split-names.ts';
import { tcgaPatientOf } from '../../workers/imaging/tcga.ts';

describe('a label', () => {
  test('loses invisible characters', () => {
    for (const written of [
      ' tumour',
      'tumour\u00A0',
      'tu\u200Bmour',
      '\uFEFFtumour',
      'tumour\u2009\t',
      'tu\u00ADmour',
      'tumour\0',
    ])
      assert.equal(normaliseText(written), 'tumour', JSON.stringify(written));
    assert.equal(normaliseText('low\u00A0 grade\nnote'), 'low grade note');
    assert.equal(normaliseText('La\u0308sion'), 'L\u00E4sion');
    // A combining mark after a zero-width space composes once the space is removed.
    assert.equal(normaliseText('La\u200B\u0308sion'), 'L\u00E4sion');
  });

  test('keeps its case and the words that are class names', () => {
    for (const label of ['Tumor', 'none', 'nano', 'NAT', 'null allele', '0', 'HER2+'])
      assert.equal(valueOf(label), label);
  });

  test('with several equivalent spellings is reported', () => {
    assert.deepEqual(mergedSpellings(['a', 'a ', 'b', 'b']), [
      '"a" is written in 2 ways that differ only in white space or invisible characters.',
    ]);
    assert.deepEqual(mergedSpellings(['NA', 'nan', 'c']), []);
  });
});

describe('labels that look alike', () => {
  const alike = (...texts: string[]): boolean => lookAlikes(texts).length > 0;
  test('differ in case, accents, word separators, look-alike letters, or the notation of a number', () => {
    assert.ok(alike('Tumor', 'tumor'));
    assert.ok(alike('Läsion', 'Lasion'));
    assert.ok(alike('low grade', 'low_grade'));
    assert.ok(alike('low-grade', 'lowgrade'));
    assert.ok(alike('ductal', 'du\u0441tal'));
    assert.ok(alike('1', '1.0'));
    assert.ok(alike('1', '01'));
    assert.ok(alike('\uFF21\uFF22', 'AB'));
  });

  test('do not include labels with different meanings', () => {
    assert.ok(!alike('HER2+', 'HER2-'));
    assert.ok(!alike('T1.0', 'T10'));
    assert.ok(!alike('-1', '1'));
    assert.ok(!alike('grade 1', 'grade 2'));
    assert.ok(!alike('1', '10'));
  });
});

describe('a split', () => {
  test('is recognised in its usual spellings', () => {
    const spellings = {
      train: ['train', 'Training', 'TRAIN', 'train_set', 'trainset', 'training data', 'train images'],
      validation: ['val', 'valid', 'Validation', 'dev', 'val-set', 'development'],
      test: ['test', 'Testing', 'testset', 'test_images', 'hold-out', 'held out'],
    };
    for (const [split, written] of Object.entries(spellings))
      for (const text of written) assert.equal(splitOf(text), split, text);
  });

  test('is not recognised in other words', () => {
    for (const text of ['', '0', 'fold1', 'strain', 'testis', 'invalid', 'trainer', 'set'])
      assert.equal(splitOf(text), undefined, text);
  });
});

describe('a patient of TCGA', () => {
  test('is found in every spelling', () => {
    for (const text of [
      'TCGA-AB-0001',
      'LUAD/TCGA-AB-0001-01Z-00-DX1_64_0.png',
      'tcga-ab-0001-01a.svs',
      'TCGA.AB.0001.01Z',
      'tcga_ab_0001_01Z_00_DX1_5.png',
      'x_TCGA-AB-0001.jpg',
      'TCGA AB 0001',
    ])
      assert.equal(tcgaPatientOf(text), 'TCGA-AB-0001', text);
    assert.equal(tcgaPatientOf('TCGA-EL-WXYZ-11A-01-TSA.svs'), 'TCGA-EL-WXYZ');
    assert.equal(tcgaPatientOf('TCGA-AB-0001/TCGA-CD-0002.png'), 'TCGA-CD-0002');
  });

  test('is not found in a name that only begins like a barcode', () => {
    for (const text of ['tcga_he_tile/1.png', 'TCGA-LUAD-0001', 'xTCGA-AB-0001', 'TCGA-AB-00012', 'tcga'])
      assert.equal(tcgaPatientOf(text), null, text);
  });
});
