/** Names from anywhere to torchvision's: one prefix, every tensor accounted for, and a refusal that lists the rest. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  detectArchitecture,
  embeddingDimOf,
  RESNET_ARCHITECTURES,
  resnetTensorSpecs,
} from '../../src/formats/torchvision-resnet.ts';
import type { ResnetArchitecture } from '../../src/formats/torchvision-resnet.ts';
import { mapToEncoder } from '../../src/formats/weights-map.ts';
import type { MappableTensor, MappingExpectation, RefusedMapping } from '../../src/formats/weights-map.ts';
import { embeddingDimOf as engineEmbeddingDimOf } from '../../workers/engine/models/architecture.ts';
import { encoderExpectations } from '../../workers/engine/models/weights.ts';

const tensor = (name: string, shape: readonly number[], dtype = 'F32'): MappableTensor => ({ name, shape, dtype });

function encoder(architecture: ResnetArchitecture = 'RESNET18', prefix = ''): MappableTensor[] {
  return resnetTensorSpecs(architecture).map(({ name, shape, kind }) =>
    tensor(`${prefix}${name}`, shape, kind === 'BATCH_COUNT' ? 'I64' : 'F32'),
  );
}

const head = (prefix: string): MappableTensor[] => [
  tensor(`${prefix}fc.1.weight`, [512, 512]),
  tensor(`${prefix}fc.1.bias`, [512]),
  tensor(`${prefix}fc.3.weight`, [128, 512]),
  tensor(`${prefix}fc.3.bias`, [128]),
];
const classifier = (prefix: string): MappableTensor[] => [
  tensor(`${prefix}fc.weight`, [1000, 512]),
  tensor(`${prefix}fc.bias`, [1000]),
];

function refusal(tensors: readonly MappableTensor[], expectation?: MappingExpectation): RefusedMapping {
  const result = mapToEncoder(tensors, expectation);
  assert.ok(result.outcome === 'REFUSED', 'it was mapped');
  return result;
}

describe('the table of names and shapes', () => {
  for (const architecture of RESNET_ARCHITECTURES) {
    test(`${architecture} is the engine's`, () => {
      const bySpec = resnetTensorSpecs(architecture).map(({ name, shape, kind, required }) => ({
        name,
        dtype: kind === 'BATCH_COUNT' ? 'I64' : 'F32',
        shape,
        required,
      }));
      const byName = (a: { name: string }, b: { name: string }): number => (a.name < b.name ? -1 : 1);
      assert.deepEqual(bySpec.toSorted(byName), encoderExpectations(architecture).toSorted(byName));
      assert.equal(embeddingDimOf(architecture), engineEmbeddingDimOf(architecture));
    });

    test(`${architecture} is detected by its names`, () => {
      assert.equal(detectArchitecture(encoder(architecture)), architecture);
      assert.equal(
        detectArchitecture(encoder(architecture).filter(({ name }) => !name.startsWith('layer3.1.'))),
        undefined,
      );
    });
  }

  test('torchvision counts as many parameters', () => {
    const count = (architecture: ResnetArchitecture): number =>
      resnetTensorSpecs(architecture)
        .filter(({ name }) => !/running|tracked/.test(name))
        .reduce((sum, { shape }) => sum + shape.reduce((product, size) => product * size, 1), 0);
    // Its documented totals, less fc: 1000 x D + 1000.
    assert.deepEqual(RESNET_ARCHITECTURES.map(count), [
      11_689_512 - 513_000,
      21_797_672 - 513_000,
      25_557_032 - 2_049_000,
      44_549_160 - 2_049_000,
    ]);
  });
});

describe('mapped', () => {
  for (const prefix of [
    '',
    'model.resnet.',
    'module.',
    'encoder.',
    'backbone.',
    'model.',
    'net.',
    'module.model.backbone.',
  ]) {
    test(`under ${JSON.stringify(prefix)}, with a projection head`, () => {
      const tensors = [...encoder('RESNET18', prefix), ...head(prefix)];
      const result = mapToEncoder(tensors);
      assert.ok(result.outcome === 'MAPPED');
      assert.equal(result.prefix, prefix);
      assert.equal(result.architecture, 'RESNET18');
      assert.deepEqual(
        [...result.tensors.keys()],
        resnetTensorSpecs('RESNET18').map(({ name }) => name),
      );
      assert.equal(
        result.tensors.get('layer4.1.conv2.weight'),
        tensors.find(({ name }) => name === `${prefix}layer4.1.conv2.weight`),
      );
      assert.equal(result.projectionHead?.hiddenDim, 512);
      assert.equal(result.projectionHead.projectionDim, 128);
      assert.deepEqual(
        [...result.projectionHead.tensors.keys()],
        ['fc.1.weight', 'fc.1.bias', 'fc.3.weight', 'fc.3.bias'],
      );
      assert.equal(result.classifier, undefined);
    });
  }

  test('with a classifier, at its own level or at an outer one', () => {
    for (const level of ['encoder.', '']) {
      const result = mapToEncoder([...encoder('RESNET18', 'encoder.'), ...classifier(level)]);
      assert.ok(result.outcome === 'MAPPED');
      assert.equal(result.classifier?.classCount, 1000);
      assert.equal(result.projectionHead, undefined);
    }
  });

  test('without batch counts, as files from before PyTorch 0.4.1; the absence is told', () => {
    const result = mapToEncoder(encoder().filter(({ name }) => !name.endsWith('num_batches_tracked')));
    assert.ok(result.outcome === 'MAPPED');
    assert.equal(result.absentBatchCounts.length, 20);
    assert.equal(result.absentBatchCounts[0], 'bn1.num_batches_tracked');
  });

  test('in half precision, and with the stated architecture and a prefix of its own', () => {
    const halves = encoder('RESNET50', 'student.').map((each) =>
      each.dtype === 'F32' ? { ...each, dtype: 'BF16' } : each,
    );
    const result = mapToEncoder(halves, { architecture: 'RESNET50', prefix: 'student.' });
    assert.ok(result.outcome === 'MAPPED');
    assert.equal(result.prefix, 'student.');
  });
});

describe('refused', () => {
  test('no encoder at all', () => {
    const result = refusal([tensor('conv.weight', [3]), tensor('blocks.0.attn.qkv.weight', [3])]);
    assert.equal(result.reason, 'NO_ENCODER');
    assert.deepEqual(result.unexpected, ['conv.weight', 'blocks.0.attn.qkv.weight']);
    assert.equal(refusal([]).reason, 'NO_ENCODER');
  });

  test('a prefix that is not known, until it is stated', () => {
    const result = refusal(encoder('RESNET18', 'student.'));
    assert.equal(result.reason, 'PREFIX_UNKNOWN');
    assert.deepEqual(result.prefixes, [{ prefix: 'student.', tensorCount: 120 }]);
  });

  test('two networks of which none is the larger', () => {
    const result = refusal([...encoder('RESNET18', 'encoder.'), ...encoder('RESNET18', 'net.')]);
    assert.equal(result.reason, 'PREFIX_AMBIGUOUS');
    assert.deepEqual(
      result.prefixes.map(({ prefix }) => prefix),
      ['encoder.', 'net.'],
    );
  });

  test('two networks, one of them stated: the other is unexplained', () => {
    const result = refusal([...encoder('RESNET18', 'encoder.'), ...encoder('RESNET18', 'net.')], {
      prefix: 'encoder.',
    });
    assert.equal(result.reason, 'MISMATCH');
    assert.equal(result.unexpected.length, 120);
    assert.deepEqual(result.missing, []);
  });

  test('a stated prefix that no name has: nothing is loaded in silence', () => {
    const result = refusal(encoder('RESNET18', 'model.resnet.'), { prefix: 'backbone.', architecture: 'RESNET18' });
    assert.equal(result.missing.length, 100);
    assert.equal(result.unexpected.length, 120);
    assert.equal(result.missing[0], 'backbone.conv1.weight');
  });

  test('another architecture than was stated', () => {
    const result = refusal(encoder('RESNET34'), { architecture: 'RESNET18' });
    assert.equal(result.reason, 'ARCHITECTURE_DIFFERS');
    assert.equal(result.detectedArchitecture, 'RESNET34');
  });

  test('a missing tensor, an odd one, and one of another shape, each under its name in the file', () => {
    const changed = encoder('RESNET18', 'model.')
      .filter(({ name }) => name !== 'model.layer4.1.conv1.weight')
      .map((each) => (each.name === 'model.conv1.weight' ? tensor(each.name, [64, 3, 3, 3]) : each));
    const result = refusal([...changed, tensor('queue', [128, 4096])]);
    assert.equal(result.reason, 'MISMATCH');
    assert.equal(result.architecture, 'RESNET18');
    assert.deepEqual(result.missing, ['model.layer4.1.conv1.weight']);
    assert.deepEqual(result.unexpected, ['queue']);
    assert.deepEqual(result.misshapen, [
      'model.conv1.weight: expected floating point [64, 3, 7, 7], got F32 [64, 3, 3, 3]',
    ]);
  });

  const faulty: readonly [string, readonly MappableTensor[], 'unexpected' | 'misshapen', readonly string[]][] = [
    [
      'weights that are integers',
      [tensor('bn1.bias', [64], 'I64')],
      'misshapen',
      ['bn1.bias: expected floating point [64], got I64 [64]'],
    ],
    [
      'batch counts that are floats',
      [tensor('bn1.num_batches_tracked', [], 'F32')],
      'misshapen',
      ['bn1.num_batches_tracked: expected I64 [], got F32 []'],
    ],
    ['half a projection head', head('').slice(0, 2), 'unexpected', ['fc.1.weight', 'fc.1.bias']],
    ['a bias of no layer', [tensor('fc.bias', [1000])], 'unexpected', ['fc.bias']],
    [
      'a head for another embedding',
      [tensor('fc.1.weight', [512, 2048]), tensor('fc.3.weight', [128, 512])],
      'misshapen',
      ['fc.1.weight: expected floating point [any, 512], got F32 [512, 2048]'],
    ],
    [
      'a head whose layers do not meet',
      [tensor('fc.1.weight', [512, 512]), tensor('fc.3.weight', [128, 256])],
      'misshapen',
      ['fc.3.weight: expected floating point [any, 512], got F32 [128, 256]'],
    ],
    [
      'a bias of another length',
      [tensor('fc.weight', [10, 512]), tensor('fc.bias', [9])],
      'misshapen',
      ['fc.bias: expected floating point [10], got F32 [9]'],
    ],
    [
      'a layer that a head does not have',
      [...head(''), tensor('fc.5.weight', [10, 128])],
      'unexpected',
      ['fc.5.weight'],
    ],
    ['one name twice', [tensor('fc.weight', [10, 512]), tensor('fc.weight', [10, 512])], 'unexpected', ['fc.weight']],
  ];
  for (const [what, more, list, wanted] of faulty) {
    test(what, () => {
      const names = new Set(more.map(({ name }) => name));
      assert.deepEqual(refusal([...encoder().filter(({ name }) => !names.has(name)), ...more])[list], wanted);
    });
  }
});
