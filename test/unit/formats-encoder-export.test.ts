import { test, describe } from 'node:test';
import assert from 'node:assert/strict';
import {
  checkedEncoder,
  contractInFile,
  describePreparation,
  exportMetadata,
} from '../../src/formats/encoder-export.ts';
import { WeightsMismatchError } from '../../src/formats/tensor-check.ts';
import { GRAPH_INPUT, GRAPH_OUTPUT } from '../../src/formats/encoders/graph.ts';
import { convolutionUnitSteps, resnetGraph } from '../../src/formats/encoders/resnet/graph.ts';
import type { SafetensorsTensor } from '../../src/formats/safetensors.ts';
import {
  RESNET_ARCHITECTURES,
  resnetArchitecture,
  resnetTensorSpecs,
} from '../../src/formats/encoders/resnet/specification.ts';
import { encoderTensorSpecs } from '../../workers/engine/encoders/resnet/architecture.ts';
import { EXPORT_CONTRACT, FILE_CONTRACT, encoderToExport } from '../support/encoder-export.ts';

describe('the graph of a residual network', () => {
  for (const architecture of RESNET_ARCHITECTURES) {
    test(`${architecture}: every step reads what an earlier one wrote, and each output has one name`, () => {
      const written = new Set<string>([GRAPH_INPUT]);
      for (const step of resnetGraph(architecture)) {
        const inputs = 'left' in step ? [step.left, step.right] : [step.input];
        for (const input of inputs) assert.ok(written.has(input), `${step.output} reads ${input} too early`);
        assert.ok(!written.has(step.output), `${step.output} is written twice`);
        written.add(step.output);
      }
      assert.ok(written.has(GRAPH_OUTPUT));
    });

    test(`${architecture}: names and shapes are the engine's and the importer's, in torchvision's order`, () => {
      const filters = encoderTensorSpecs(architecture).filter(({ kind }) => kind === 'FILTER');
      const ours = convolutionUnitSteps(architecture).map(
        ({ convolutionName, inputChannels, outputChannels, window }) => ({
          name: `${convolutionName}.weight`,
          kind: 'FILTER',
          shape: [outputChannels, inputChannels, window.size, window.size],
        }),
      );
      assert.deepEqual(ours, filters);
      assert.deepEqual(
        encoderToExport(architecture).tensors.map(({ name, shape }) => ({ name, shape })),
        resnetTensorSpecs(architecture).map(({ name, shape }) => ({ name, shape })),
      );
    });
  }
});

describe('weights to export', () => {
  const { tensors } = encoderToExport('RESNET18');
  const without = (name: string): SafetensorsTensor[] => tensors.filter((tensor) => tensor.name !== name);
  const faultOf = (given: readonly SafetensorsTensor[]): WeightsMismatchError => {
    try {
      checkedEncoder(resnetArchitecture('RESNET18'), given);
    } catch (error) {
      assert.ok(error instanceof WeightsMismatchError);
      return error;
    }
    return assert.fail('The weights were taken.');
  };

  test('are taken in any order, and listed as torchvision lists them', () => {
    const checked = checkedEncoder(resnetArchitecture('RESNET18'), tensors.toReversed());
    assert.deepEqual(
      checked.description.tensors.map(({ name }) => checked.tensors.get(name)?.data),
      tensors.map(({ data }) => data),
    );
  });

  test('may lack batch counts', () => {
    const checked = checkedEncoder(resnetArchitecture('RESNET18'), without('bn1.num_batches_tracked'));
    assert.equal(checked.tensors.has('bn1.num_batches_tracked'), false);
    assert.equal(checked.tensors.size, tensors.length - 1);
  });

  test('must be complete', () => assert.deepEqual(faultOf(without('bn1.bias')).missing, ['bn1.bias']));
  test('must contain no other tensors', () => {
    const { unexpected } = faultOf([
      ...tensors,
      { name: 'fc.weight', dtype: 'F32', shape: [1], data: new Float32Array(1) },
    ]);
    assert.deepEqual(unexpected, ['fc.weight']);
  });
  test('must be unique', () => {
    const [first] = tensors;
    assert.ok(first !== undefined);
    assert.deepEqual(faultOf([{ ...first }, ...tensors]).unexpected, ['conv1.weight']);
  });
  test('must have the right shape', () => {
    const { mismatched } = faultOf([
      ...without('bn1.bias'),
      { name: 'bn1.bias', dtype: 'F32', shape: [32, 2], data: new Float32Array(64) },
    ]);
    assert.deepEqual(mismatched, ['bn1.bias: expected F32 [64], got F32 [32, 2] with 64 numbers']);
  });
  test('must have as many numbers as their shape says', () => {
    assert.equal(
      faultOf([...without('bn1.bias'), { name: 'bn1.bias', dtype: 'F32', shape: [64], data: new Float32Array(63) }])
        .mismatched.length,
      1,
    );
  });
  test('must have the right dtype', () => {
    assert.equal(
      faultOf([...without('bn1.bias'), { name: 'bn1.bias', dtype: 'U8', shape: [64], data: new Uint8Array(64) }])
        .mismatched.length,
      1,
    );
    assert.equal(
      faultOf([
        ...without('bn1.num_batches_tracked'),
        { name: 'bn1.num_batches_tracked', dtype: 'F32', shape: [], data: new Float32Array(1) },
      ]).mismatched.length,
      1,
    );
  });
  test('are distinguished from those of another architecture', () => {
    const { missing, message } = faultOf(
      encoderToExport('RESNET34').tensors.filter(({ name }) => !name.startsWith('layer4')),
    );
    assert.ok(missing.length > 0);
    assert.match(message, /^The weights do not fit RESNET18: \d+ missing \(layer4\.0\.conv1\.weight; /);
  });
});

test('the preparation is described in words and kept as facts', () => {
  assert.equal(
    describePreparation(EXPORT_CONTRACT),
    'Input: RGB images, short side resized to 224 px (bilinear, antialiased), centre crop; pixel values scaled to 0..1, minus mean [0.5, 0.5, 0.5], divided by standard deviation [0.25, 0.5, 0.5].',
  );
  assert.match(describePreparation({ ...EXPORT_CONTRACT, resizeRule: 'STRETCH' }), /resized to 224 x 224 px/);
  const facts = new Map(
    exportMetadata({ ...encoderToExport('RESNET18'), metadata: { zebra: '1', architecture: 'a lie' } }),
  );
  assert.deepEqual([...facts.keys()], ['architecture', 'inputContract', 'preparation', 'zebra']);
  assert.equal(facts.get('architecture'), 'RESNET18');
  assert.deepEqual(JSON.parse(facts.get('inputContract') ?? ''), FILE_CONTRACT);
});

test('a contract says pooling, interpolation and dtype in a file only where earlier contracts did not imply them', () => {
  assert.deepEqual(contractInFile(EXPORT_CONTRACT), FILE_CONTRACT);
  const second = { ...EXPORT_CONTRACT, pooling: 'CLS', interpolation: 'BICUBIC', weightsDtype: 'BFLOAT16' } as const;
  assert.deepEqual(contractInFile(second), second);
});

test('a file of half precision says so, and that its own numbers are float32', () => {
  const source = encoderToExport('RESNET18');
  const facts = new Map(
    exportMetadata({ ...source, inputContract: { ...source.inputContract, weightsDtype: 'FLOAT16' } }),
  );
  assert.equal(
    facts.get('precision'),
    'The weights were imported as float16; this file has the same values as float32.',
  );
});
