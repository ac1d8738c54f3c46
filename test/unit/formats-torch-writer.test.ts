import { test, describe } from 'node:test';
import assert from 'node:assert/strict';
import { WeightsMismatchError } from '../../src/formats/tensor-check.ts';
import { accessBytes } from '../../src/formats/random-access.ts';
import { readTorchCheckpoint } from '../../src/formats/torch-checkpoint/index.ts';
import { writeTorchCheckpoint } from '../../src/formats/torch-writer.ts';
import { resnetArchitecture } from '../../src/formats/encoders/resnet/specification.ts';
import { FILE_CONTRACT, encoderToExport } from '../support/encoder-export.ts';

describe('a PyTorch checkpoint that is written here', () => {
  const source = encoderToExport('RESNET18');
  const file = Buffer.from(writeTorchCheckpoint({ ...source, tensors: source.tensors.toReversed() }));

  test("is read back with the same names, in torchvision's order, and the same bits", async () => {
    const { format, tensors, ignored } = await readTorchCheckpoint(accessBytes(file));
    assert.equal(format, 'ZIP');
    assert.deepEqual(ignored, []);
    assert.deepEqual(
      tensors.map(({ name, dtype, shape }) => ({ name, dtype, shape })),
      source.tensors.map(({ name, dtype, shape }) => ({ name, dtype, shape: [...shape] })),
    );
    for (const [index, tensor] of tensors.entries())
      assert.deepEqual((await tensor.load()).data, source.tensors[index]?.data, tensor.name);
  });

  test('has the structure that PyTorch requires: a zip whose first entry is the pickle (protocol 2), followed by the version and the byte order', () => {
    assert.equal(file.readUInt32LE(0), 0x04034b50);
    assert.equal(file.toString('latin1', 30, 30 + file.readUInt16LE(26)), 'archive/data.pkl');
    const pickle = file.subarray(30 + file.readUInt16LE(26) + file.readUInt16LE(28));
    assert.deepEqual([...pickle.subarray(0, 2)], [0x80, 2]);
    assert.equal(pickle.toString('latin1', 2, 29), 'ccollections\nOrderedDict\n)R');
    for (const name of ['archive/byteorder', 'archive/version', 'archive/data/0', 'archive/data/119'])
      assert.ok(file.includes(name), name);
    assert.ok(!file.includes('archive/data/120'));
  });

  test('names only the four globals that a state dict needs', () => {
    const globals = new Set<string>();
    const start = 30 + file.readUInt16LE(26) + file.readUInt16LE(28);
    const pickle = file.subarray(start, start + file.readUInt32LE(18));
    let position = 0;
    while (position < pickle.length) {
      const opcode = String.fromCharCode(pickle.readUInt8(position));
      position += 1;
      const operandBytes = { '\x80': 1, K: 1, M: 2, J: 4 }[opcode];
      if (opcode === 'c') {
        const end = pickle.indexOf('\n', pickle.indexOf('\n', position) + 1);
        globals.add(pickle.toString('latin1', position, end).replace('\n', '.'));
        position = end + 1;
      } else if (opcode === 'X') position += 4 + pickle.readUInt32LE(position);
      else if (operandBytes !== undefined) position += operandBytes;
      else assert.match(opcode, /[()RuQt\x89.]/);
    }
    assert.equal(position, pickle.length);
    assert.deepEqual([...globals].sort(), [
      'collections.OrderedDict',
      'torch.FloatStorage',
      'torch.LongStorage',
      'torch._utils._rebuild_tensor_v2',
    ]);
  });

  test('aligns each tensor to 64 bytes, as PyTorch does', () => {
    const [first] = source.tensors;
    assert.ok(first?.dtype === 'F32');
    const at = file.indexOf(new Uint8Array(first.data.buffer, first.data.byteOffset, first.data.byteLength));
    assert.ok(at > 0);
    assert.equal(at % 64, 0);
  });

  test('stores the input contract with the weights', () => {
    const start = file.indexOf('{"architecture"');
    const facts: unknown = JSON.parse(file.toString('utf8', start, file.indexOf('"}', start) + 2));
    assert.ok(typeof facts === 'object' && facts !== null && 'inputContract' in facts && 'name' in facts);
    assert.deepEqual(JSON.parse(String(facts.inputContract)), FILE_CONTRACT);
    assert.equal(facts.name, 'tissue é');
  });

  test('is identical each time, and refuses weights of another network', () => {
    assert.ok(file.equals(writeTorchCheckpoint(source)));
    assert.throws(
      () => writeTorchCheckpoint({ ...source, architecture: resnetArchitecture('RESNET34') }),
      WeightsMismatchError,
    );
  });
});
