import { test, describe } from 'node:test';
import assert from 'node:assert/strict';
import { WeightsMismatchError } from '../../src/formats/tensor-check.ts';
import { writeOnnx } from '../../src/formats/onnx.ts';
import { ProtobufMessage } from '../../src/formats/protobuf-writer.ts';
import {
  embeddingDimOf,
  RESNET_ARCHITECTURES,
  resnetArchitecture,
} from '../../src/formats/encoders/resnet/specification.ts';
import { encoderToExport, FILE_CONTRACT } from '../support/encoder-export.ts';

type Field = number | Uint8Array;

/** The fields of a message by number, in order: varints and fixed32 as numbers, everything else as bytes. */
function fieldsOf(bytes: Uint8Array): Map<number, Field[]> {
  const fields = new Map<number, Field[]>();
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let position = 0;
  const varint = (): number => {
    let value = 0;
    for (let factor = 1; ; factor *= 128) {
      const byte = view.getUint8(position);
      position += 1;
      value += (byte % 128) * factor;
      if (byte < 128) return value;
    }
  };
  const value = (wireType: number): Field => {
    if (wireType === 0) return varint();
    if (wireType === 5) {
      position += 4;
      return view.getFloat32(position - 4, true);
    }
    assert.equal(wireType, 2);
    const length = varint();
    position += length;
    assert.ok(position <= bytes.byteLength);
    return bytes.subarray(position - length, position);
  };
  while (position < bytes.byteLength) {
    const tag = varint();
    const field = Math.floor(tag / 8);
    fields.set(field, [...(fields.get(field) ?? []), value(tag % 8)]);
  }
  return fields;
}

const bytesOf = (field: Field | undefined): Uint8Array =>
  field instanceof Uint8Array ? field : assert.fail('no bytes');
const message = (field: Field | undefined): Map<number, Field[]> => fieldsOf(bytesOf(field));
const text = (field: Field | undefined): string => new TextDecoder().decode(bytesOf(field));
const texts = (fields: readonly Field[] | undefined): string[] => (fields ?? []).map(text);

interface Node {
  readonly op: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly attributes: ReadonlyMap<string, readonly Field[]>;
}

function nodeOf(field: Field): Node {
  const fields = message(field);
  const attributes = (fields.get(5) ?? []).map((attribute): [string, readonly Field[]] => {
    const parts = message(attribute);
    // f, i or ints, according to the type.
    const [type] = parts.get(20) ?? [];
    const [kind, values] =
      [
        [1, parts.get(2)],
        [2, parts.get(3)],
        [7, parts.get(8)],
      ].find(([, held]) => held !== undefined) ?? [];
    assert.equal(type, kind);
    return [text(parts.get(1)?.[0]), Array.isArray(values) ? values : []];
  });
  return {
    op: text(fields.get(4)?.[0]),
    inputs: texts(fields.get(1)),
    outputs: texts(fields.get(2)),
    attributes: new Map(attributes),
  };
}

function shapeOf(valueInfo: Field | undefined): (string | number)[] {
  const tensorType = message(message(message(valueInfo).get(2)?.[0]).get(1)?.[0]);
  assert.deepEqual(tensorType.get(1), [1]);
  return (message(tensorType.get(2)?.[0]).get(1) ?? []).map((dim) => {
    const [size] = message(dim).get(1) ?? [];
    return typeof size === 'number' ? size : text(message(dim).get(2)?.[0]);
  });
}

describe('ONNX', () => {
  for (const architecture of RESNET_ARCHITECTURES) {
    test(`${architecture}: a model that says what it is, a graph in order, weights as they are`, () => {
      const source = encoderToExport(architecture);
      const model = fieldsOf(writeOnnx(source));
      assert.deepEqual(model.get(1), [8]);
      assert.deepEqual(message(model.get(8)?.[0]).get(2), [17]);
      assert.match(text(model.get(6)?.[0]), /minus mean \[0\.5, 0\.5, 0\.5\]/);
      const metadata = new Map(
        (model.get(14) ?? []).map((pair): [string, string] => [
          text(message(pair).get(1)?.[0]),
          text(message(pair).get(2)?.[0]),
        ]),
      );
      assert.deepEqual(JSON.parse(metadata.get('inputContract') ?? ''), FILE_CONTRACT);
      assert.equal(metadata.get('name'), 'tissue é');

      const graph = message(model.get(7)?.[0]);
      assert.equal(text(message(graph.get(11)?.[0]).get(1)?.[0]), 'images');
      assert.deepEqual(shapeOf(graph.get(11)?.[0]), ['batch', 3, 'height', 'width']);
      assert.equal(text(message(graph.get(12)?.[0]).get(1)?.[0]), 'embeddings');
      assert.deepEqual(shapeOf(graph.get(12)?.[0]), ['batch', embeddingDimOf(architecture)]);

      const tensors = source.tensors.filter(({ dtype }) => dtype === 'F32');
      const initialisers = (graph.get(5) ?? []).map(message);
      assert.equal(initialisers.length, tensors.length);
      const known = new Set(['images']);
      for (const [index, tensor] of tensors.entries()) {
        const initialiser = initialisers[index];
        assert.equal(text(initialiser?.get(8)?.[0]), tensor.name);
        assert.deepEqual(initialiser?.get(1), tensor.shape);
        assert.deepEqual(initialiser?.get(2), [1]);
        assert.ok(
          Buffer.from(tensor.data.buffer, tensor.data.byteOffset, tensor.data.byteLength).equals(
            bytesOf(initialiser?.get(9)?.[0]),
          ),
          tensor.name,
        );
        known.add(tensor.name);
      }
      const nodes = (graph.get(1) ?? []).map(nodeOf);
      for (const { inputs, outputs } of nodes) {
        for (const input of inputs) assert.ok(known.has(input), `${input} is read before it is written`);
        for (const output of outputs) {
          assert.ok(!known.has(output), `${output} is written twice`);
          known.add(output);
        }
      }
      assert.deepEqual(nodes.at(-1)?.outputs, ['embeddings']);
      const counts = new Map<string, number>();
      for (const { op } of nodes) counts.set(op, (counts.get(op) ?? 0) + 1);
      const blocks = counts.get('Add') ?? 0;
      const perBlock = architecture === 'RESNET18' || architecture === 'RESNET34' ? 2 : 3;
      assert.equal(blocks, { RESNET18: 8, RESNET34: 16, RESNET50: 16, RESNET101: 33 }[architecture]);
      assert.equal(counts.get('Conv'), 1 + blocks * perBlock + (perBlock === 2 ? 3 : 4));
      assert.equal(counts.get('BatchNormalization'), counts.get('Conv'));
      assert.equal(counts.get('Relu'), 1 + blocks * perBlock);
    });
  }

  test("the windows are torchvision's", () => {
    const graph = message(fieldsOf(writeOnnx(encoderToExport('RESNET50'))).get(7)?.[0]);
    const nodes = (graph.get(1) ?? []).map(nodeOf);
    const windowOf = (output: string): unknown => {
      const { attributes } = nodes.find(({ outputs }) => outputs.includes(output)) ?? assert.fail(output);
      return ['kernel_shape', 'strides', 'pads'].map((name) => attributes.get(name)?.[0]);
    };
    assert.deepEqual(windowOf('conv1'), [7, 2, 3]);
    assert.deepEqual(windowOf('maxpool'), [3, 2, 1]);
    assert.deepEqual(windowOf('layer2.0.conv1'), [1, 1, 0]);
    assert.deepEqual(windowOf('layer2.0.conv2'), [3, 2, 1]);
    assert.deepEqual(windowOf('layer2.0.downsample.0'), [1, 2, 0]);
    const epsilon = nodes.find(({ op }) => op === 'BatchNormalization')?.attributes.get('epsilon')?.[0];
    assert.equal(epsilon, Math.fround(1e-5));
  });

  test('is identical each time, and refuses weights of another network', () => {
    const source = encoderToExport('RESNET18');
    assert.ok(Buffer.from(writeOnnx(source)).equals(writeOnnx({ ...source, tensors: source.tensors.toReversed() })));
    assert.throws(() => writeOnnx({ ...source, architecture: resnetArchitecture('RESNET50') }), WeightsMismatchError);
  });
});

describe('a protocol buffer', () => {
  test('is encoded as in the examples of its specification', () => {
    assert.deepEqual([...new ProtobufMessage().natural(1, 150).toBytes()], [0x08, 0x96, 0x01]);
    assert.deepEqual(
      [...new ProtobufMessage().string(2, 'testing').toBytes()],
      [0x12, 0x07, 0x74, 0x65, 0x73, 0x74, 0x69, 0x6e, 0x67],
    );
    assert.deepEqual(
      [...new ProtobufMessage().message(3, new ProtobufMessage().natural(1, 150)).toBytes()],
      [0x1a, 0x03, 0x08, 0x96, 0x01],
    );
    assert.deepEqual([...new ProtobufMessage().float(2, 1).toBytes()], [0x15, 0, 0, 0x80, 0x3f]);
  });

  test('stores natural numbers up to 2^53 and refuses others', () => {
    assert.deepEqual(
      fieldsOf(new ProtobufMessage().naturals(1, [0, 127, 128, 2 ** 40, Number.MAX_SAFE_INTEGER]).toBytes()).get(1),
      [0, 127, 128, 2 ** 40, Number.MAX_SAFE_INTEGER],
    );
    for (const value of [-1, 0.5, Number.NaN, 2 ** 53])
      assert.throws(() => new ProtobufMessage().natural(1, value), RangeError);
  });
});
