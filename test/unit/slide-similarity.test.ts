/** Cosines of stored embeddings, read from a file in pieces. */
import assert from 'node:assert/strict';
import { Readable } from 'node:stream';
import { test } from 'node:test';
import { writeNpy } from '../../src/formats/npy.ts';
import { similaritiesOf, type OpenRange } from '../../src/modules/embeddings/slide-similarity.ts';

/** Vectors in a plane of a space of three dimensions, by their angles in degrees and their lengths. */
const VECTORS = [
  [15, 2],
  [0, 1],
  [60, 5],
  [90, 0.001],
  [180, 7],
  [60, 0],
  [-45, 1e6],
] as const;
const DIM = 3;

function stored(values: Float32Array, pieceBytes: number) {
  const bytes = writeNpy({ shape: [values.length / DIM, DIM], data: values });
  let readBytes = 0;
  const open: OpenRange = async (_sha256, { first, last }) => {
    const range = bytes.subarray(first, last + 1);
    readBytes += range.length;
    const pieces = Array.from({ length: Math.ceil(range.length / pieceBytes) }, (_, index) =>
      Buffer.from(range.subarray(index * pieceBytes, (index + 1) * pieceBytes)),
    );
    return Readable.from(pieces, { objectMode: false });
  };
  const set = {
    ...{ id: '', source: 'CHECKPOINT' as const, encoderDigest: '', datasetDigest: '', preparationDigest: '' },
    ...{ imageCount: values.length / DIM, embeddingDim: DIM, sha256: '', byteSize: bytes.length, idsSha256: '' },
    createdAt: new Date(0),
  };
  return { open, set, readBytes: () => readBytes };
}

const values = Float32Array.from(
  VECTORS.flatMap(([degrees, length]) => [
    length * Math.cos((degrees * Math.PI) / 180),
    0,
    length * Math.sin((degrees * Math.PI) / 180),
  ]),
);

for (const pieceBytes of [1, 5, 12, 65_536])
  test(`are those of the angles, for rows of the slide alone, in pieces of ${pieceBytes} bytes`, async () => {
    const { open, set, readBytes } = stored(values, pieceBytes);
    // Rows 1 to 6 are the slide; row 2 is at 60 degrees.
    const found = await similaritiesOf(open, set, { firstRow: 1, count: 6 }, 2);
    const expected = [60, 0, 30, 120, null, 105].map((degrees) =>
      degrees === null ? null : Number(Math.cos((degrees * Math.PI) / 180).toFixed(4)),
    );
    assert.deepEqual(
      found.map((value) => (value === null ? null : value + 0)),
      expected,
    );
    assert.equal(readBytes(), (1 + 6) * DIM * 4);
  });

test('with an embedding that is zero or not finite are not known', async () => {
  const { open, set } = stored(values, 100);
  assert.deepEqual(await similaritiesOf(open, set, { firstRow: 4, count: 3 }, 5), [null, null, null]);
  const broken = stored(Float32Array.from([1, 0, 0, NaN, 0, 0]), 100);
  assert.deepEqual(await similaritiesOf(broken.open, broken.set, { firstRow: 0, count: 2 }, 0), [1, null]);
});

test('of a file that does not have these rows are an error', async () => {
  const { open, set } = stored(values, 100);
  await assert.rejects(similaritiesOf(open, set, { firstRow: 5, count: 3 }, 5), /rows of the version/);
  await assert.rejects(
    similaritiesOf(open, { ...set, byteSize: set.byteSize - 1 }, { firstRow: 0, count: 1 }, 0),
    /rows of the version/,
  );
  const short: OpenRange = async (sha256, { first, last }) => open(sha256, { first, last: Math.min(last, first + 20) });
  await assert.rejects(similaritiesOf(short, set, { firstRow: 0, count: 3 }, 0), /shorter than its shape/);
});
