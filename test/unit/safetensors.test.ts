/** The safetensors format in detail: one test for each kind of invalid bytes. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  allocateSafetensors,
  MAX_HEADER_BYTES,
  openForeignSafetensors,
  readForeignSafetensors,
  readSafetensors,
  SafetensorsError,
  writeSafetensors,
  type SafetensorsFault,
  type SafetensorsTensor,
} from '../../src/formats/safetensors.ts';
import { accessBytes } from '../../src/formats/random-access.ts';
import { toFloat32 } from '../../src/formats/torch-checkpoint/index.ts';

const WEIGHT: SafetensorsTensor = {
  name: 'conv1.weight',
  dtype: 'F32',
  shape: [2, 3],
  data: new Float32Array([1, -2, 3.5, 0, Number.MIN_VALUE, 1e30]),
};
const COUNT: SafetensorsTensor = {
  name: 'bn1.num_batches_tracked',
  dtype: 'I64',
  shape: [],
  data: new BigInt64Array([-9_007_199_254_740_993n]),
};
const PIXELS: SafetensorsTensor = { name: 'golden', dtype: 'U8', shape: [3], data: new Uint8Array([0, 127, 255]) };

/** A file from a header as text and a number of data bytes. */
function fileOf(header: string | Uint8Array, dataBytes = 0, claimedHeaderBytes?: bigint): Uint8Array {
  const headerBytes = typeof header === 'string' ? new TextEncoder().encode(header) : header;
  const file = new Uint8Array(8 + headerBytes.length + dataBytes);
  new DataView(file.buffer).setBigUint64(0, claimedHeaderBytes ?? BigInt(headerBytes.length), true);
  file.set(headerBytes, 8);
  return file;
}

function isFault(fault: SafetensorsFault): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof SafetensorsError, `expected a SafetensorsError, got ${String(error)}`);
    assert.equal(error.fault, fault, error.message);
    return true;
  };
}

describe('what is written', () => {
  test('is read back bit for bit', () => {
    const file = readSafetensors(writeSafetensors([WEIGHT, COUNT, PIXELS], { format: 'pt', note: 'Gewebe, ткань' }));
    assert.deepEqual(file.tensors, [COUNT, WEIGHT, PIXELS]);
    assert.deepEqual(file.metadata, { format: 'pt', note: 'Gewebe, ткань' });
  });

  test('has the same bytes in whatever order the tensors are given', () => {
    const one = writeSafetensors([WEIGHT, COUNT, PIXELS], { b: '2', a: '1' });
    assert.deepEqual(writeSafetensors([PIXELS, COUNT, WEIGHT], { a: '1', b: '2' }), one);
  });

  test('is aligned: the data begins at a multiple of 8, and each tensor at one of its element size', () => {
    for (const name of ['a', 'ab', 'abc', 'abcdefgh']) {
      const bytes = writeSafetensors([
        { ...PIXELS, name },
        { ...WEIGHT, name: `${name}w`, shape: [1], data: new Float32Array([1]) },
        COUNT,
      ]);
      const headerBytes = Number(new DataView(bytes.buffer).getBigUint64(0, true));
      assert.equal(headerBytes % 8, 0);
      const header: Record<string, { data_offsets: [number, number] }> = JSON.parse(
        new TextDecoder().decode(bytes.subarray(8, 8 + headerBytes)),
      );
      assert.deepEqual(
        Object.values(header).map((info) => info.data_offsets),
        [
          [0, 8],
          [8, 12],
          [12, 15],
        ],
      );
    }
  });

  test('has a header that every reader of the format accepts', () => {
    const bytes = writeSafetensors([{ name: 't', dtype: 'U8', shape: [2, 1], data: new Uint8Array([7, 8]) }], {
      k: 'v',
    });
    const header = '{"__metadata__":{"k":"v"},"t":{"dtype":"U8","shape":[2,1],"data_offsets":[0,2]}}';
    assert.equal(header.length % 8, 0);
    assert.deepEqual(
      bytes,
      new Uint8Array([header.length, 0, 0, 0, 0, 0, 0, 0, ...new TextEncoder().encode(header), 7, 8]),
    );
  });

  test('may be empty, hold empty tensors, and have names such as __proto__ or 1', () => {
    assert.deepEqual(readSafetensors(writeSafetensors([])), { tensors: [], metadata: {} });
    const empty: SafetensorsTensor[] = ['1', '__proto__', 'b'].map((name) => ({
      name,
      dtype: 'F32',
      shape: [0, 5],
      data: new Float32Array(0),
    }));
    assert.deepEqual(readSafetensors(writeSafetensors(empty)).tensors, empty);
  });

  test('gives the same bytes when the layout is made first and filled in place', () => {
    const { file, places } = allocateSafetensors([WEIGHT, COUNT, PIXELS], { a: '1' });
    for (const { name, data } of [WEIGHT, COUNT, PIXELS]) places.get(name)?.set(new Uint8Array(data.buffer));
    assert.deepEqual(file, writeSafetensors([WEIGHT, COUNT, PIXELS], { a: '1' }));
  });

  test('is read back without a copy', () => {
    const bytes = writeSafetensors([WEIGHT, COUNT, PIXELS]);
    for (const { data } of readSafetensors(bytes).tensors) assert.equal(data.buffer, bytes.buffer);
  });

  test('is read correctly for any alignment in memory, and from shared memory', () => {
    const bytes = writeSafetensors([WEIGHT, COUNT]);
    assert.deepEqual(readSafetensors(Buffer.concat([Buffer.from([0]), bytes]).subarray(1)).tensors, [COUNT, WEIGHT]);
    const shared = new Uint8Array(new SharedArrayBuffer(bytes.length));
    shared.set(bytes);
    assert.deepEqual(readSafetensors(shared).tensors, [COUNT, WEIGHT]);
  });
});

describe('what cannot be written', () => {
  const cases: readonly [string, SafetensorsFault, () => unknown][] = [
    ['two tensors of one name', 'DUPLICATE_KEY', () => writeSafetensors([WEIGHT, WEIGHT])],
    ['the name of the metadata', 'NAME_INVALID', () => writeSafetensors([{ ...WEIGHT, name: '__metadata__' }])],
    ['half a surrogate pair', 'NAME_INVALID', () => writeSafetensors([{ ...WEIGHT, name: '\ud800' }])],
    ['half a surrogate pair in the metadata', 'METADATA_INVALID', () => writeSafetensors([], { key: '\udc00' })],
    ['a shape with a fraction', 'TENSOR_INFO_INVALID', () => writeSafetensors([{ ...PIXELS, shape: [1.5, 2] }])],
    ['a negative shape', 'TENSOR_INFO_INVALID', () => writeSafetensors([{ ...PIXELS, shape: [-3, -1] }])],
    ['more numbers than the shape', 'SIZE_MISMATCH', () => writeSafetensors([{ ...WEIGHT, shape: [5] }])],
    [
      'a shape beyond counting',
      'SHAPE_TOO_LARGE',
      () => writeSafetensors([{ ...WEIGHT, shape: [2 ** 50, 2 ** 50, 0] }]),
    ],
  ];
  for (const [what, fault, write] of cases) test(what, () => assert.throws(write, isFault(fault)));
});

describe('what is refused', () => {
  const tensor = (fields: string): string => `{"t":{${fields}}}`;
  const good = '"dtype":"U8","shape":[2],"data_offsets":[0,2]';
  const two = (a: string, b: string): string =>
    `{"a":{"dtype":"U8","shape":[2],"data_offsets":${a}},"b":{"dtype":"U8","shape":[2],"data_offsets":${b}}}`;

  test('does not include valid files', () => {
    assert.equal(readSafetensors(fileOf(tensor(good), 2)).tensors.length, 1);
    assert.equal(readSafetensors(fileOf(`${tensor(good)}   `, 2)).tensors.length, 1);
    assert.equal(readSafetensors(fileOf(two('[2,4]', '[0,2]'), 4)).tensors.length, 2);
  });

  const cases: readonly [string, SafetensorsFault, Uint8Array][] = [
    ['no bytes', 'TOO_SHORT', new Uint8Array(0)],
    ['seven bytes', 'TOO_SHORT', new Uint8Array(7)],
    ['a header over the cap', 'HEADER_TOO_LARGE', fileOf('{}', 0, BigInt(MAX_HEADER_BYTES) + 1n)],
    ['a header length of 2^64 - 1', 'HEADER_TOO_LARGE', fileOf('{}', 0, 2n ** 64n - 1n)],
    ['a header past the end', 'HEADER_BEYOND_END', fileOf('{}', 0, 3n)],
    ['bytes that are not UTF-8', 'HEADER_NOT_UTF8', fileOf(new Uint8Array([0x7b, 0x22, 0xff, 0x22, 0x7d]))],
    ['an empty header', 'HEADER_NOT_OBJECT', fileOf('')],
    ['a byte order mark', 'HEADER_NOT_OBJECT', fileOf('\ufeff{}')],
    ['leading space', 'HEADER_NOT_OBJECT', fileOf(' {}')],
    ['a list', 'HEADER_NOT_OBJECT', fileOf('[]')],
    ['broken JSON', 'HEADER_NOT_JSON', fileOf('{"t":')],
    ['zeros after the JSON', 'HEADER_NOT_JSON', fileOf('{}\0\0')],
    ['deep nesting', 'HEADER_NOT_JSON', fileOf(`{"t":${'['.repeat(200_000)}`)],
    ['one name twice', 'DUPLICATE_KEY', fileOf(`{"t":{${good}},"t":{${good}}}`, 2)],
    ['one name twice, once escaped', 'DUPLICATE_KEY', fileOf(`{"t":{${good}},"\\u0074":{${good}}}`, 2)],
    ['one field twice', 'DUPLICATE_KEY', fileOf(tensor(`${good},"dtype":"U8"`), 2)],
    ['one key of the metadata twice', 'DUPLICATE_KEY', fileOf('{"__metadata__":{"a":"1","a":"2"}}')],
    ['metadata that is a list', 'METADATA_INVALID', fileOf('{"__metadata__":[]}')],
    ['metadata that is null', 'METADATA_INVALID', fileOf('{"__metadata__":null}')],
    ['metadata with a number', 'METADATA_INVALID', fileOf('{"__metadata__":{"a":1}}')],
    ['a tensor that is a number', 'TENSOR_INFO_INVALID', fileOf('{"t":1}')],
    ['a name with half a surrogate pair', 'NAME_INVALID', fileOf('{"\\ud800":{}}')],
    ['a tensor without dtype', 'TENSOR_INFO_INVALID', fileOf(tensor('"shape":[2],"data_offsets":[0,2]'), 2)],
    ['a tensor without shape', 'TENSOR_INFO_INVALID', fileOf(tensor('"dtype":"U8","data_offsets":[0,2]'), 2)],
    ['a tensor without offsets', 'TENSOR_INFO_INVALID', fileOf(tensor('"dtype":"U8","shape":[2]'), 2)],
    ['three offsets', 'TENSOR_INFO_INVALID', fileOf(tensor('"dtype":"U8","shape":[2],"data_offsets":[0,1,2]'), 2)],
    ['an unknown field', 'TENSOR_INFO_INVALID', fileOf(tensor(`${good},"code":"x"`), 2)],
    ['an unknown dtype', 'DTYPE_UNSUPPORTED', fileOf(tensor('"dtype":"F4","shape":[2],"data_offsets":[0,2]'), 2)],
    [
      'a dtype named like a property of every object',
      'DTYPE_UNSUPPORTED',
      fileOf(tensor('"dtype":"constructor","shape":[2],"data_offsets":[0,2]'), 2),
    ],
    ['a negative size', 'NUMBER_NOT_NATURAL', fileOf(tensor('"dtype":"U8","shape":[-2],"data_offsets":[0,2]'), 2)],
    [
      'a fraction that is whole',
      'NUMBER_NOT_NATURAL',
      fileOf(tensor('"dtype":"U8","shape":[2.0],"data_offsets":[0,2]'), 2),
    ],
    ['an exponent', 'NUMBER_NOT_NATURAL', fileOf(tensor('"dtype":"U8","shape":[2e0],"data_offsets":[0,2]'), 2)],
    [
      'an offset beyond 2^53',
      'NUMBER_NOT_NATURAL',
      fileOf(tensor('"dtype":"U8","shape":[2],"data_offsets":[0,9007199254740993]'), 2),
    ],
    [
      'a shape whose product overflows',
      'SHAPE_TOO_LARGE',
      fileOf(tensor('"dtype":"U8","shape":[4503599627370496,4503599627370496],"data_offsets":[0,0]')),
    ],
    [
      'an overflow hidden by a zero',
      'SHAPE_TOO_LARGE',
      fileOf(tensor('"dtype":"U8","shape":[4503599627370496,4503599627370496,0],"data_offsets":[0,0]')),
    ],
    ['offsets in reverse', 'OFFSETS_REVERSED', fileOf(tensor('"dtype":"U8","shape":[2],"data_offsets":[2,0]'), 2)],
    [
      'a hole before the first tensor',
      'HOLE_OR_OVERLAP',
      fileOf(tensor('"dtype":"U8","shape":[2],"data_offsets":[1,3]'), 3),
    ],
    ['a hole between tensors', 'HOLE_OR_OVERLAP', fileOf(two('[0,2]', '[3,5]'), 5)],
    ['an overlap', 'HOLE_OR_OVERLAP', fileOf(two('[0,2]', '[1,3]'), 3)],
    ['two tensors on the same bytes', 'HOLE_OR_OVERLAP', fileOf(two('[0,2]', '[0,2]'), 2)],
    [
      'fewer bytes than shape and dtype need',
      'SIZE_MISMATCH',
      fileOf(tensor('"dtype":"F32","shape":[2],"data_offsets":[0,2]'), 2),
    ],
    ['bytes after the last tensor', 'END_MISMATCH', fileOf(tensor(good), 3)],
    ['an end that is cut off', 'END_MISMATCH', fileOf(tensor(good), 1)],
    ['bytes without a tensor', 'END_MISMATCH', fileOf('{}', 1)],
  ];
  for (const [what, fault, bytes] of cases)
    test(what, () => assert.throws(() => readSafetensors(bytes), isFault(fault)));
});

describe("other people's files", () => {
  /** One tensor of one dtype, its bytes written by hand. */
  const foreign = (dtype: string, count: number, bytes: readonly number[]): Uint8Array => {
    const file = fileOf(
      `{"t":{"dtype":"${dtype}","shape":[${count}],"data_offsets":[0,${bytes.length}]}}`,
      bytes.length,
    );
    file.set(bytes, file.length - bytes.length);
    return file;
  };
  // Bit patterns from IEEE 754: 1, -2, and the largest half; bfloat16 is the upper half of a float32.
  const halves: readonly (readonly [string, number, readonly number[], readonly number[]])[] = [
    ['F16', 3, [0x00, 0x3c, 0x00, 0xc0, 0xff, 0x7b], [1, -2, 65504]],
    ['BF16', 2, [0x80, 0x3f, 0x00, 0xc0], [1, -2]],
    ['F64', 1, [0, 0, 0, 0, 0, 0, 0xf8, 0x3f], [1.5]],
    ['I32', 1, [0xfe, 0xff, 0xff, 0xff], [-2]],
    ['I16', 1, [0x00, 0x80], [-32768]],
    ['I8', 1, [0xff], [-1]],
    ['BOOL', 2, [0, 1], [0, 1]],
  ];
  for (const [dtype, count, bytes, numbers] of halves) {
    test(`hold ${dtype}, which becomes float32`, () => {
      const [tensor] = readForeignSafetensors(foreign(dtype, count, bytes)).tensors;
      assert.ok(tensor !== undefined);
      assert.deepEqual(toFloat32(tensor), new Float32Array(numbers));
      assert.throws(() => readForeignSafetensors(foreign(dtype, count + 1, bytes)), isFault('SIZE_MISMATCH'));
      assert.throws(() => readSafetensors(foreign(dtype, count, bytes)), isFault('DTYPE_UNSUPPORTED'));
    });
  }

  test('are read one by one, each into the place that is given for it, or beside one of another size', async () => {
    const bytes = writeSafetensors([WEIGHT, COUNT, PIXELS], { note: 'ткань' });
    const { tensors, metadata } = await openForeignSafetensors(accessBytes(bytes));
    assert.deepEqual(metadata, { note: 'ткань' });
    const whole = readForeignSafetensors(bytes).tensors;
    assert.equal(tensors.length, whole.length);
    for (const [index, tensor] of tensors.entries()) {
      const expected = whole[index];
      assert.ok(expected !== undefined);
      assert.deepEqual([tensor.name, tensor.dtype, tensor.shape], [expected.name, expected.dtype, expected.shape]);
      const place = new Uint8Array(expected.data.byteLength);
      const loaded = await tensor.load(place);
      assert.deepEqual(loaded, { dtype: expected.dtype, data: expected.data });
      assert.equal(loaded.data.buffer, place.buffer);
      assert.deepEqual(await tensor.load(new Uint8Array(1)), { dtype: expected.dtype, data: expected.data });
    }
  });

  test('of a file that shrinks while it is read are refused', async () => {
    const bytes = writeSafetensors([WEIGHT]);
    let isShort = false;
    const source = accessBytes(bytes);
    const shrinking = {
      byteSize: bytes.length,
      read: (offset: number, length: number) => source.read(offset, isShort ? length - 4 : length),
    };
    const { tensors } = await openForeignSafetensors(shrinking);
    isShort = true;
    await assert.rejects(async () => tensors[0]?.load(new Uint8Array(24)), isFault('SIZE_MISMATCH'));
  });

  for (const dtype of ['F8_E4M3', 'F8_E5M2', 'U16', 'U32', 'U64', 'C64']) {
    test(`hold ${dtype}, which is refused by name`, () =>
      assert.throws(() => readForeignSafetensors(foreign(dtype, 1, [0, 0])), isFault('DTYPE_UNSUPPORTED')));
  }
});
