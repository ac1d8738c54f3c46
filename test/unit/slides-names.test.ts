/** Which files of a folder are slides, and which line of a CSV means which. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { describeSlides, slideFilesAmong } from '../../workers/imaging/slides/find-slides.ts';
import type { SlideRow } from '../../workers/imaging/slides/slides-csv.ts';

function collector() {
  const found: string[] = [];
  return { found, add: (kind: string, subject: string): void => void found.push(`${kind} ${subject}`) };
}

const row = (slide: string, others: Partial<SlideRow> = {}): SlideRow => ({
  ...{ slide, label: null, patient: null, split: null, micronsPerPixel: null },
  ...others,
});

describe('slides among files', () => {
  test('are those with the name of one; companion files are left alone, and any other file is an issue', () => {
    const issues = collector();
    const slides = slideFilesAmong(
      [
        ...['a.svs', 'b.mrxs', 'b/Data0000.dat', 'b/Slidedat.ini', 'c/scan.vms', 'c/scan_map.jpg', 'd/photo.jpg'],
        ...['d/features.H5', 'd/bag.pt'],
        ...['dicom/1.dcm', 'dicom/2.dcm', 'e.NDPI'],
      ],
      { areBeside: false, below: null },
      issues,
    );
    assert.deepEqual(slides, ['a.svs', 'b.mrxs', 'c/scan.vms', 'dicom/1.dcm', 'e.NDPI']);
    assert.deepEqual(issues.found, [
      'NOT_A_SLIDE d/photo.jpg',
      'FEATURES_FILE d/features.H5',
      'FEATURES_FILE d/bag.pt',
    ]);
  });
});

test('GeoJSON is an issue where no annotations are expected', () => {
  const files = ['S1.geojson', 'S1.svs', 'S2.geojson', 'drawn/S1.geojson'];
  const foundFor = (areBeside: boolean, below: string | null): string[] => {
    const issues = collector();
    assert.deepEqual(slideFilesAmong(files, { areBeside, below }, issues), ['S1.svs']);
    return issues.found;
  };
  assert.deepEqual(foundFor(false, null), [
    ...['NOT_A_SLIDE S1.geojson', 'NOT_A_SLIDE S2.geojson', 'NOT_A_SLIDE drawn/S1.geojson'],
  ]);
  assert.deepEqual(foundFor(true, null), ['NOT_A_SLIDE S2.geojson', 'NOT_A_SLIDE drawn/S1.geojson']);
  assert.deepEqual(foundFor(false, 'drawn'), ['NOT_A_SLIDE S1.geojson', 'NOT_A_SLIDE S2.geojson']);
});

describe('lines of a CSV', () => {
  test('name a slide by path, file name or bare name, in any Unicode form', () => {
    const issues = collector();
    const slides = describeSlides(
      ['a/S1.svs', 'a/S2.svs', 'b/S3.ndpi', 'b/Nie\u0301vre.svs'],
      [row('a/S1.svs'), row('S2.svs'), row('S3', { patient: 'P3', micronsPerPixel: 0.25 }), row('Ni\u00e9vre')],
      issues,
    );
    assert.deepEqual(issues.found, []);
    assert.deepEqual(
      slides.map(({ relativePath, group, givenMicronsPerPixel }) => [relativePath, group, givenMicronsPerPixel]),
      [
        ['a/S1.svs', 'a/S1.svs', null],
        ['a/S2.svs', 'a/S2.svs', null],
        ['b/Nie\u0301vre.svs', 'b/Nie\u0301vre.svs', null],
        ['b/S3.ndpi', 'P3', 0.25],
      ],
    );
  });

  test('without a file, twice for a file, or for two files are issues, and so are files without a line', () => {
    const issues = collector();
    const slides = describeSlides(
      ['a/S1.svs', 'b/S1.svs', 'b/S2.svs', 'b/S4.svs'],
      [row('S1'), row('S2'), row('b/S2.svs'), row('S3')],
      issues,
    );
    assert.deepEqual(slides, []);
    assert.deepEqual(issues.found.sort(), [
      'SLIDE_NAME_AMBIGUOUS a/S1.svs',
      'SLIDE_NAME_AMBIGUOUS b/S1.svs',
      'SLIDE_NAME_AMBIGUOUS b/S2.svs',
      'SLIDE_NOT_FOUND S3',
      'SLIDE_NOT_IN_CSV b/S4.svs',
    ]);
  });

  test('the group is the patient, else the TCGA patient in the name, else the slide', () => {
    const groupsOf = (rows: readonly SlideRow[] | null): readonly string[] =>
      describeSlides(['TCGA-CR-7395-01A.svs', 'x.svs'], rows, collector()).map(({ group }) => group);
    assert.deepEqual(groupsOf(null), ['TCGA-CR-7395', 'x.svs']);
    assert.deepEqual(groupsOf([row('TCGA-CR-7395-01A', { patient: 'P1' }), row('x')]), ['P1', 'x.svs']);
  });
});
