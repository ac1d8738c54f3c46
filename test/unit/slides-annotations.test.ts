/** Annotations of slides: what three tools write, the area of polygons by closed forms, and what is wrong in a file. */
import assert from 'node:assert/strict';
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, test, type TestContext } from 'node:test';
import { openFolder } from '../../src/platform/open-folder.ts';
import type { AnnotationOptions } from '../../src/protocol/slide-options.ts';
import { selfCrossingOf, sharesOf } from '../../workers/imaging/slides/annotated-area.ts';
import { AnnotationsError, readAnnotations, type Region } from '../../workers/imaging/slides/annotations.ts';
import { annotationsBeside, annotationsIn } from '../../workers/imaging/slides/annotation-files.ts';
import { labelPatches } from '../../workers/imaging/slides/label-patches.ts';
import { temporaryFolder } from '../support/shards.ts';

type Points = readonly (readonly [number, number])[];

const square = (left: number, top: number, side: number): Points => [
  [left, top],
  [left + side, top],
  [left + side, top + side],
  [left, top + side],
];
const region = (label: string, rings: readonly Points[], isHole = false): Region => ({
  ...{ label, isHole, name: label },
  rings: rings.map((ring) => Float64Array.from(ring.flat())),
});
const closed = (points: Points): Points => [...points, ...points.slice(0, 1)];
const feature = (rings: readonly Points[], classification: unknown, type = 'Polygon') => ({
  type: 'Feature',
  geometry: { type, coordinates: type === 'MultiPolygon' ? [rings.map(closed)] : rings.map(closed) },
  properties: { objectType: 'annotation', classification },
});
const geoJson = (...features: readonly unknown[]): Buffer =>
  Buffer.from(JSON.stringify({ type: 'FeatureCollection', features }));

/** Share of a label in one patch. */
function share(regions: readonly Region[], label: string, x = 0, y = 0, side = 100): number {
  return sharesOf(regions, [{ x, y }], { width: side, height: side })[0]?.byLabel.get(label) ?? 0;
}

describe('the share of a patch', () => {
  const CASES: readonly (readonly [string, readonly Region[], number])[] = [
    ['in a square is exact across', [region('a', [square(37.25, -50, 300)])], 0.6275],
    [
      'in a triangle is half',
      [
        region('a', [
          [
            [0, 0],
            [100, 0],
            [0, 100],
          ],
        ]),
      ],
      0.5,
    ],
    [
      'in a circle of many vertices',
      [
        region('a', [
          Array.from(
            { length: 720 },
            (_, k) => [50 + 40 * Math.cos((k * Math.PI) / 360), 50 + 40 * Math.sin((k * Math.PI) / 360)] as const,
          ),
        ]),
      ],
      (Math.PI * 1600) / 1e4,
    ],
    ['in a polygon with a hole leaves the hole out', [region('a', [square(-10, -10, 200), square(20, 20, 50)])], 0.75],
    [
      'in two overlapping polygons counts once',
      [region('a', [square(0, 0, 60)]), region('a', [square(30, 0, 60)])],
      0.54,
    ],
    [
      'in two polygons of one place counts once',
      [region('a', [square(0, 0, 60)]), region('a', [square(0, 0, 60)])],
      0.36,
    ],
    [
      'in an area with a negative region',
      [region('a', [square(0, 0, 100)]), region('a', [square(50, 0, 100)], true)],
      0.5,
    ],
    ['outside of a polygon is none', [region('a', [square(200, 200, 50)])], 0],
    [
      'in a bow tie is its two triangles',
      [
        region('a', [
          [
            [0, 0],
            [100, 100],
            [100, 0],
            [0, 100],
          ],
        ]),
      ],
      0.5,
    ],
    ['in a polygon that is a thousand slides wide', [region('a', [square(-1e12, -1e12, 2e12)])], 1],
  ];
  for (const [what, regions, expected] of CASES)
    test(what, () => {
      const found = share(regions, 'a');
      assert.ok(Math.abs(found - expected) <= 1 / 128, `${found}, not ${expected}`);
    });

  test('is that of each patch, also of patches that overlap and of rows far apart', () => {
    const regions = [region('a', [square(0, 0, 150)]), region('b', [square(150, 0, 5000)])];
    const patches = [
      [0, 0],
      [100, 0],
      [200, 0],
      [50, 50],
      [120, 4000],
      [0, 9000],
    ].map(([x = 0, y = 0]) => ({ x, y }));
    const found = sharesOf(regions, patches, { width: 100, height: 100 });
    const round = (value = 0): number => Math.round(value * 100) / 100;
    assert.deepEqual(
      found.map(({ byLabel, outside }) => [round(byLabel.get('a')), round(byLabel.get('b')), round(outside)]),
      [
        [1, 0, 0],
        [0.5, 0.5, 0],
        [0, 1, 0],
        [1, 0, 0],
        [0, 0.7, 0.3],
        [0, 0, 1],
      ],
    );
  });

  test('does not depend on where polygons begin, nor on the direction of their outlines', () => {
    const points: Points = [
      [10, 5],
      [90, 20],
      [70, 95],
      [40, 60],
      [5, 80],
    ];
    const turned = [...points.slice(2), ...points.slice(0, 2)].reverse();
    assert.ok(Math.abs(share([region('a', [points])], 'a') - share([region('a', [turned])], 'a')) < 1e-12);
  });
});

test('an outline that crosses itself is found, and one that touches itself is not', () => {
  const ring = (points: Points): Float64Array => Float64Array.from(points.flat());
  assert.ok(
    selfCrossingOf(
      ring([
        [0, 0],
        [100, 100],
        [100, 0],
        [0, 100],
      ]),
    ) !== null,
  );
  for (const points of [
    square(0, 0, 10),
    [
      [0, 0],
      [10, 0],
      [5, 5],
    ],
    [
      [0, 0],
      [10, 0],
      [10, 10],
      [5, 0],
      [0, 10],
    ],
  ] as const)
    assert.equal(selfCrossingOf(ring(points)), null);
  const star = Array.from({ length: 20_000 }, (_, k) => {
    const radius = k % 2 === 0 ? 1000 : 990;
    return [radius * Math.cos((k * Math.PI) / 10_000), radius * Math.sin((k * Math.PI) / 10_000)] as const;
  });
  assert.equal(selfCrossingOf(ring(star)), null);
});

describe('a file of annotations', () => {
  const shapes = (bytes: Buffer | string) =>
    readAnnotations(Buffer.from(bytes)).regions.map(({ label, rings, isHole }) => [
      label,
      rings.map((ring) => [...ring]),
      isHole,
    ]);
  const SQUARE = square(10, 20, 30).flat();

  test('is GeoJSON of QuPath: classes of both forms, holes, several parts; cells are not annotations', () => {
    assert.deepEqual(
      shapes(
        geoJson(
          feature([square(10, 20, 30), square(15, 25, 5)], { name: 'Tumor', color: [200, 0, 0] }),
          feature([square(10, 20, 30)], 'Stroma', 'MultiPolygon'),
          {
            ...feature([square(0, 0, 5)], { name: 'Cell' }),
            properties: { objectType: 'detection', classification: { name: 'Cell' } },
          },
        ),
      ),
      [
        ['Tumor', [SQUARE, square(15, 25, 5).flat()], false],
        ['Stroma', [SQUARE], false],
      ],
    );
    const one = feature([square(10, 20, 30)], { name: 'Tumor' });
    for (const document of [one, [one]])
      assert.deepEqual(shapes(JSON.stringify(document)), [['Tumor', [SQUARE], false]]);
  });

  test("is ASAP's XML, whose vertices are sorted by their order", () => {
    const vertices = [2, 0, 3, 1].map((order) => {
      const [x, y] = square(10, 20, 30)[order] ?? [0, 0];
      return `<Coordinate Order="${order}" X="${x}" Y="${String(y).replace('.', ',')}" />`;
    });
    const xml = `<?xml version="1.0"?>\r\n<!-- made by ASAP --><ASAP_Annotations><Annotations><Annotation Name="A &lt;1&gt;" Type="Polygon" PartOfGroup="Tumor &amp; stroma" Color="#F4FA58"><Coordinates>${vertices.join('\n')}</Coordinates></Annotation></Annotations><AnnotationGroups><Group Name="Tumor" PartOfGroup="None" Color="#00ff00"><Attributes /></Group></AnnotationGroups></ASAP_Annotations>`;
    assert.deepEqual(shapes(xml), [['Tumor & stroma', [SQUARE], false]]);
    assert.deepEqual(shapes(`\uFEFF${xml}`), shapes(xml));
  });

  test("is Aperio's XML, whose negative regions are cut out", () => {
    const vertices = square(10, 20, 30)
      .map(([x, y]) => `<Vertex X="${x}" Y="${y}" Z="0"/>`)
      .join('');
    const regionOf = (attributes: string): string =>
      `<Region Id="1" ${attributes}><Attributes/><Vertices>${vertices}</Vertices></Region>`;
    const xml = `<Annotations MicronsPerPixel="0.25"><Annotation Id="1" Name='Tumor' Type="4"><Attributes/><Regions><RegionAttributeHeaders/>${regionOf('Type="0" NegativeROA="0"')}${regionOf('Type="1" NegativeROA="1"')}</Regions></Annotation></Annotations>`;
    assert.deepEqual(shapes(xml), [
      ['Tumor', [SQUARE], false],
      ['Tumor', [SQUARE], true],
    ]);
  });

  const LEFT_OUT: readonly (readonly [string, Buffer | string, RegExp])[] = [
    ['a polygon without a class', geoJson(feature([square(0, 0, 5)], null)), /Polygon 1 has no class/],
    ['a missing class', geoJson(feature([square(0, 0, 5)], { name: 'NA' })), /Polygon 1 has no class/],
    [
      'a line',
      geoJson({ ...feature([square(0, 0, 5)], { name: 'T' }), geometry: { type: 'LineString', coordinates: [] } }),
      /Feature 1 \(T\) is a LineString, not a polygon/,
    ],
    [
      'a feature without a place',
      geoJson({ ...feature([square(0, 0, 5)], { name: 'T' }), geometry: null }),
      /not a polygon/,
    ],
    [
      'a polygon of two vertices',
      geoJson(feature([square(0, 0, 5).slice(0, 2)], { name: 'T' })),
      /fewer than three vertices/,
    ],
    ['something else', geoJson({ type: 'Point' }), /Feature 1 is not a feature/],
    [
      'a vertex that is no number',
      '<ASAP_Annotations><Annotations><Annotation Type="Polygon" PartOfGroup="T"><Coordinates><Coordinate Order="0" X="1" Y="x"/><Coordinate Order="1" X="1" Y="2"/><Coordinate Order="2" X="5" Y="2"/></Coordinates></Annotation></Annotations></ASAP_Annotations>',
      /A vertex of polygon 1 \(T\) is not a number/,
    ],
    [
      'a dot of ASAP',
      '<ASAP_Annotations><Annotations><Annotation Type="Dot" PartOfGroup="T"/></Annotations></ASAP_Annotations>',
      /Annotation 1 \(T\) is a Dot/,
    ],
    [
      'no group of ASAP',
      '<ASAP_Annotations><Annotations><Annotation Type="Polygon" PartOfGroup="None"/></Annotations></ASAP_Annotations>',
      /Polygon 1 is in no group/,
    ],
    [
      'an arrow of Aperio',
      '<Annotations><Annotation Name="T"><Regions><Region Type="3"/></Regions></Annotation></Annotations>',
      /region 1 of layer 1 \(T\) is of type 3/,
    ],
    [
      'a layer without a name',
      '<Annotations><Annotation Name=""><Regions><Region Type="0"/></Regions></Annotation></Annotations>',
      /Layer 1 has no name/,
    ],
  ];
  for (const [what, bytes, reason] of LEFT_OUT)
    test(`with ${what} says so`, () => {
      const { regions, leftOut } = readAnnotations(Buffer.from(bytes));
      assert.deepEqual([regions.length, leftOut.length], [0, 1]);
      assert.match(leftOut.join(' '), reason);
    });

  const REFUSED: readonly (readonly [string, string, RegExp])[] = [
    ['that is empty', '', /neither JSON nor XML/],
    ['of prose', 'tumour on the left', /neither JSON nor XML/],
    ['that is cut short', '{"type":"FeatureCollection","features":[', /neither JSON nor XML/],
    ['of other JSON', '{"slides":[]}', /neither GeoJSON nor/],
    ['without a feature', '{"type":"FeatureCollection","features":[]}', /holds no polygon/],
    ['of XML that is cut short', '<Annotations><Annotation>', /ends within <Annotation>/],
    ['of XML that does not nest', '<Annotations></Annotation>', /closes nothing/],
    ['of two roots', '<Annotations/><Annotations/>', /second root/],
    ['of other XML', '<svg/>', /begins with <svg>/],
    ['of broken XML', '<Annotations X=1/>', /not XML at character 0/],
    ['with entities of its own', '<!DOCTYPE a [<!ENTITY b "c">]><Annotations/>', /document type/],
    ['that is nested without end', '<a>'.repeat(100), /nested more than 64/],
  ];
  for (const [what, text, message] of REFUSED)
    test(`${what} is refused`, () =>
      assert.throws(
        () => readAnnotations(Buffer.from(text)),
        (error: unknown) => error instanceof AnnotationsError && message.test(error.message),
      ));
});

describe('patches of a slide', () => {
  const OPTIONS: AnnotationOptions = { path: null, shareMin: 0.6, otherLabel: null, classes: null };
  const places = [
    [0, 0],
    [100, 0],
    [200, 0],
    [0, 100],
    [100, 100],
    [200, 100],
  ].map(([x = 0, y = 0]) => ({ x, y, tissueFraction: 1 }));

  async function labels(
    context: TestContext,
    files: Readonly<Record<string, Buffer | string>>,
    options: AnnotationOptions | null,
  ) {
    const base = await temporaryFolder(context);
    await mkdir(path.join(base, 'a'));
    for (const [name, bytes] of Object.entries(files)) await writeFile(path.join(base, 'a', name), bytes);
    await using folder = await openFolder(base);
    const { byLabel, notices } = await labelPatches(
      {
        ...{ relativePath: 'a/S1.svs', label: 'whole', places },
        patch: { width: 100, height: 100 },
        slide: { width: 300, height: 200 },
      },
      options === null ? null : { files: annotationsBeside(folder), options },
    );
    return {
      byLabel: Object.fromEntries(
        [...byLabel].map(([label, each]) => [label ?? 'none', each.map(({ x, y }) => `${x},${y}`)]),
      ),
      notices: notices.map(({ issue, reason }) => `${issue} ${reason ?? ''}`),
    };
  }
  const EVERY = places.map(({ x, y }) => `${x},${y}`);

  test('have the label of the annotation that covers enough of them', async (context) => {
    const file = geoJson(
      feature([square(0, 0, 130)], { name: 'tumour' }),
      feature([square(170, 0, 200)], { name: 'normal' }),
    );
    assert.deepEqual(await labels(context, { 'S1.geojson': file }, OPTIONS), {
      byLabel: { normal: ['200,0', '200,100'], tumour: ['0,0'], none: ['100,0', '0,100', '100,100'] },
      notices: [],
    });
    const other = await labels(context, { 'S1.svs.geojson': file }, { ...OPTIONS, otherLabel: 'rest' });
    // Outside lie 0.4 of the patch at 100,0 and 0.61 of that at 100,100.
    assert.deepEqual(other.byLabel, {
      normal: ['200,0', '200,100'],
      rest: ['0,100', '100,100'],
      tumour: ['0,0'],
      none: ['100,0'],
    });
  });

  test('of two labels are in none, and told', async (context) => {
    const file = geoJson(
      feature([square(0, 0, 100)], { name: 'tumour' }),
      feature([square(0, 0, 100)], { name: 'normal' }),
    );
    const { byLabel, notices } = await labels(context, { 'S1.json': file }, OPTIONS);
    assert.deepEqual(byLabel, { none: EVERY.slice(1) });
    assert.deepEqual(notices, ['ANNOTATIONS_DISAGREE The patch at 0, 0 in pixels of level 0: normal, tumour.']);
  });

  test('have the label of the CSV without annotations, and where they are not asked for', async (context) => {
    const file = geoJson(feature([square(0, 0, 100)], { name: 'tumour' }));
    for (const found of [await labels(context, {}, OPTIONS), await labels(context, { 'S1.geojson': file }, null)])
      assert.deepEqual(found, { byLabel: { whole: EVERY }, notices: [] });
  });

  test('are told what is wrong: outside, unknown classes, crossings, two files, a broken one', async (context) => {
    const file = geoJson(
      feature([square(1000, 0, 100)], { name: 'tumour' }),
      feature([square(0, 0, 100)], { name: 'artefact' }),
      feature(
        [
          [
            [0, 0],
            [300, 200],
            [300, 0],
            [0, 200],
          ],
        ],
        { name: 'tumour' },
      ),
    );
    const { notices } = await labels(context, { 'S1.geojson': file }, { ...OPTIONS, classes: ['tumour'] });
    assert.equal(notices.length, 3);
    assert.match(
      notices[0] ?? '',
      /^ANNOTATION_LEFT_OUT The polygon 1 \(tumour\) lies outside of the slide of 300 x 200 px/,
    );
    assert.match(notices[1] ?? '', /^ANNOTATION_LEFT_OUT The polygon 2 \(artefact\) is of a class that is not among/);
    assert.match(notices[2] ?? '', /^ANNOTATION_CROSSES_ITSELF The polygon 3 \(tumour\), near \d+, \d+/);
    const two = await labels(context, { 'S1.geojson': file, 'S1.xml': '<svg/>' }, OPTIONS);
    assert.deepEqual(two, {
      byLabel: { none: EVERY },
      notices: ['ANNOTATIONS_UNREADABLE There are several: a/S1.geojson, a/S1.xml. Keep one.'],
    });
    const broken = await labels(context, { 'S1.xml': '<svg/>' }, OPTIONS);
    assert.deepEqual(broken.byLabel, { none: EVERY });
    assert.match(broken.notices.join(' '), /^ANNOTATIONS_UNREADABLE a\/S1\.xml: Its XML begins with <svg>/);
  });
});

describe('the file of a slide', () => {
  async function filesFor(
    context: TestContext,
    files: readonly string[],
    slides: readonly string[],
  ): Promise<Readonly<Record<string, readonly string[]>>> {
    const base = await temporaryFolder(context);
    for (const file of files) {
      await mkdir(path.dirname(path.join(base, file)), { recursive: true });
      await writeFile(path.join(base, file), '');
    }
    await using folder = await openFolder(base);
    const annotations = annotationsIn(folder, slides);
    return Object.fromEntries(
      await Promise.all(slides.map(async (slide) => [slide, await annotations.of(slide)] as const)),
    );
  }

  test('in a folder of annotations has its name, in its subfolder or in none', async (context) => {
    assert.deepEqual(
      await filesFor(
        context,
        ['S1.geojson', 'b/S2.svs.xml', 'Schnitt ü.json', 'S4.txt'],
        ['a/S1.svs', 'b/S2.svs', 'Schnitt ü.ndpi', 'S4.svs'],
      ),
      { 'a/S1.svs': ['S1.geojson'], 'b/S2.svs': ['b/S2.svs.xml'], 'Schnitt ü.ndpi': ['Schnitt ü.json'], 'S4.svs': [] },
    );
  });

  test('is not guessed for two slides of one name, and two files for one slide are both named', async (context) => {
    assert.deepEqual(
      await filesFor(
        context,
        ['S1.geojson', 'b/S1.geojson', 'S2.geojson', 'c/S2.xml'],
        ['a/S1.svs', 'b/S1.ndpi', 'c/S2.svs'],
      ),
      { 'a/S1.svs': [], 'b/S1.ndpi': ['b/S1.geojson'], 'c/S2.svs': ['c/S2.xml', 'S2.geojson'] },
    );
  });
});
