/** Maps foreign names to torchvision's: one prefix, every tensor accounted for, and a refusal that lists the rest. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  detectArchitecture,
  embeddingDimOf,
  RESNET_NAMES,
  resnetTensorSpecs,
} from '../../src/formats/encoders/resnet/specification.ts';
import type { ResnetName } from '../../src/formats/encoders/resnet/specification.ts';
import { mapToEncoder } from '../../src/formats/encoders/mapping.ts';
import type { MappableTensor, MappingExpectation, RefusedMapping } from '../../src/formats/encoders/mapping.ts';
import { embeddingDimOf as engineEmbeddingDimOf } from '../../workers/engine/encoders/resnet/architecture.ts';
import { encoderExpectations } from '../../workers/engine/encoders/resnet/weights.ts';

const tensor = (name: string, shape: readonly number[], dtype = 'F32'): MappableTensor => ({ name, shape, dtype });

function encoder(architecture: ResnetName = 'RESNET18', prefix = ''): MappableTensor[] {
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
  for (const architecture of RESNET_NAMES) {
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

  test("has as many parameters as torchvision's", () => {
    const count = (architecture: ResnetName): number =>
      resnetTensorSpecs(architecture)
        .filter(({ name }) => !/running|tracked/.test(name))
        .reduce((sum, { shape }) => sum + shape.reduce((product, size) => product * size, 1), 0);
    // torchvision's documented totals minus fc: 1000 x D + 1000.
    assert.deepEqual(RESNET_NAMES.map(count), [
      11_689_512 - 513_000,
      21_797_672 - 513_000,
      25_557_032 - 2_049_000,
      44_549_160 - 2_049_000,
      60_192_808 - 2_049_000,
      68_883_240 - 2_049_000,
      126_886_696 - 2_049_000,
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
      assert.equal(result.description.name, 'RESNET18');
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

  test('with a classifier, on its own level or on an outer one', () => {
    for (const level of ['encoder.', '']) {
      const result = mapToEncoder([...encoder('RESNET18', 'encoder.'), ...classifier(level)]);
      assert.ok(result.outcome === 'MAPPED');
      assert.equal(result.classifier?.classCount, 1000);
      assert.equal(result.projectionHead, undefined);
    }
  });

  test('without batch counts, as files from before PyTorch 0.4.1; the absence is reported', () => {
    const result = mapToEncoder(encoder().filter(({ name }) => !name.endsWith('num_batches_tracked')));
    assert.ok(result.outcome === 'MAPPED');
    assert.equal(result.absentBatchCounts.length, 20);
    assert.equal(result.absentBatchCounts[0], 'bn1.num_batches_tracked');
  });

  test('in half precision, and with the stated architecture and a prefix of its own', () => {
    const halves = encoder('RESNET50', 'student.').map((each) =>
      each.dtype === 'F32' ? { ...each, dtype: 'BF16' } : each,
    );
    const result = mapToEncoder(halves, { encoder: 'RESNET50', prefix: 'student.' });
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

  test('two queries, two teachers, or a third network beside them: none is chosen by guessing', () => {
    for (const prefixes of [
      ['a.encoder_q.', 'b.encoder_q.', 'b.encoder_k.'],
      ['teacher.', 'student.', 'state_dict_ema.'],
      ['momentum_backbone.', 'backbone.'],
    ])
      assert.equal(refusal(prefixes.flatMap((prefix) => encoder('RESNET18', prefix))).reason, 'PREFIX_AMBIGUOUS');
  });

  test('a wide network with a tensor too few is named as what it is', () => {
    const result = refusal(encoder('WIDE_RESNET50_2').filter(({ name }) => name !== 'bn1.weight'));
    assert.deepEqual(
      [result.detectedEncoder, result.network, result.missing],
      ['WIDE_RESNET50_2', 'Wide ResNet-50-2', ['bn1.weight']],
    );
  });

  test('a network and its moving average of another size: the larger one is not chosen by guessing', () => {
    const result = refusal([...encoder('RESNET50', 'state_dict.'), ...encoder('RESNET18', 'state_dict_ema.')]);
    assert.equal(result.reason, 'PREFIX_AMBIGUOUS');
  });

  test('a stated prefix that no name has is refused', () => {
    const result = refusal(encoder('RESNET18', 'model.resnet.'), { prefix: 'backbone.', encoder: 'RESNET18' });
    assert.equal(result.missing.length, 100);
    assert.equal(result.missing[0], 'backbone.conv1.weight');
    assert.deepEqual(result.prefixes, [{ prefix: 'model.resnet.', tensorCount: 120 }], 'where it could be');
  });

  test('a vision transformer where a ResNet was stated', () => {
    const result = refusal([tensor('patch_embed.proj.weight', [192, 3, 16, 16])], { encoder: 'RESNET18' });
    assert.deepEqual([result.reason, result.encoder], ['ARCHITECTURE_DIFFERS', 'RESNET18']);
  });

  test('facts stated of a ResNet, whose tensors tell everything', () => {
    const result = refusal(encoder(), { specification: { headCount: 12 } });
    assert.deepEqual(
      [result.reason, result.fault],
      ['SPECIFICATION_INVALID', 'headCount cannot be stated of a ResNet, whose tensors tell everything'],
    );
  });

  test('another architecture than was stated', () => {
    const result = refusal(encoder('RESNET34'), { encoder: 'RESNET18' });
    assert.equal(result.reason, 'ARCHITECTURE_DIFFERS');
    assert.equal(result.detectedEncoder, 'RESNET34');
  });

  test('a missing tensor, an unexpected one, and one with another shape, each by its name in the file', () => {
    const changed = encoder('RESNET18', 'model.')
      .filter(({ name }) => name !== 'model.layer4.1.conv1.weight')
      .map((each) => (each.name === 'model.conv1.weight' ? tensor(each.name, [64, 3, 3, 3]) : each));
    const result = refusal([...changed, tensor('model.attention.weight', [128, 512])]);
    assert.equal(result.reason, 'MISMATCH');
    assert.equal(result.encoder, 'RESNET18');
    assert.deepEqual(result.missing, ['model.layer4.1.conv1.weight']);
    assert.deepEqual(result.unexpected, ['model.attention.weight']);
    assert.deepEqual(result.mismatched, [
      'model.conv1.weight: expected floating point [64, 3, 7, 7], got F32 [64, 3, 3, 3]',
    ]);
  });

  const faulty: readonly [string, readonly MappableTensor[], 'unexpected' | 'mismatched', readonly string[]][] = [
    [
      'weights that are integers',
      [tensor('bn1.bias', [64], 'I64')],
      'mismatched',
      ['bn1.bias: expected floating point [64], got I64 [64]'],
    ],
    [
      'batch counts that are many',
      [tensor('bn1.num_batches_tracked', [2])],
      'mismatched',
      ['bn1.num_batches_tracked: expected one whole number [], got F32 [2]'],
    ],
    [
      'a head of another kind for another embedding: the network pools otherwise',
      [tensor('projection_head.0.weight', [256, 1024]), tensor('projection_head.2.weight', [128, 256])],
      'mismatched',
      ['projection_head.0.weight: expected floating point [any, 512], got F32 [256, 1024]'],
    ],
    ['a convolution with a bias', [tensor('conv1.bias', [64])], 'unexpected', ['conv1.bias']],
    [
      'a block with something more',
      [tensor('layer1.0.se.fc.weight', [4, 64])],
      'unexpected',
      ['layer1.0.se.fc.weight'],
    ],
    ['a second network beside it', [tensor('decoder.0.weight', [8, 512, 3, 3])], 'unexpected', ['decoder.0.weight']],
    ['a bias of no layer', [tensor('fc.bias', [1000])], 'unexpected', ['fc.bias']],
    [
      'a head for another embedding',
      [tensor('fc.1.weight', [512, 2048]), tensor('fc.3.weight', [128, 512])],
      'mismatched',
      ['fc.1.weight: expected floating point [any, 512], got F32 [512, 2048]'],
    ],
    [
      'a head whose layers do not meet',
      [tensor('fc.1.weight', [512, 512]), tensor('fc.3.weight', [128, 256])],
      'mismatched',
      ['fc.3.weight: expected floating point [any, 512], got F32 [128, 256]'],
    ],
    [
      'a bias of another length',
      [tensor('fc.weight', [10, 512]), tensor('fc.bias', [9])],
      'mismatched',
      ['fc.bias: expected floating point [10], got F32 [9]'],
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

describe('as other tools leave their files', () => {
  const linear = (name: string, outputDim: number, inputDim: number): MappableTensor[] => [
    tensor(`${name}.weight`, [outputDim, inputDim]),
    tensor(`${name}.bias`, [outputDim]),
  ];
  const norm = (name: string): MappableTensor[] => [
    tensor(`${name}.weight`, [64]),
    tensor(`${name}.running_mean`, [64]),
    tensor(`${name}.num_batches_tracked`, [], 'I64'),
  ];
  const withHead = (prefix: string): MappableTensor[] => [
    ...encoder('RESNET18', prefix),
    ...linear(`${prefix}fc.0`, 512, 512),
    ...linear(`${prefix}fc.2`, 128, 512),
  ];
  /** `nn.Sequential(*list(resnet.children())[:-1])`. */
  const sequential = (prefix: string): MappableTensor[] => {
    const positions = new Map([
      ['conv1', '0'],
      ['bn1', '1'],
      ['layer1', '4'],
      ['layer2', '5'],
      ['layer3', '6'],
      ['layer4', '7'],
    ]);
    return encoder().map((each) => {
      const [part = '', ...rest] = each.name.split('.');
      return { ...each, name: `${prefix}${[positions.get(part), ...rest].join('.')}` };
    });
  };
  const files: readonly {
    readonly tool: string;
    readonly tensors: readonly MappableTensor[];
    /** If the file contains several networks. */
    readonly stated?: string;
    readonly prefix: string;
    readonly ignored: readonly (readonly [string, number])[];
  }[] = [
    {
      tool: 'MoCo: a query encoder, a key encoder, a queue',
      tensors: [
        ...withHead('module.encoder_q.'),
        ...withHead('module.encoder_k.'),
        tensor('module.queue', [128, 65536]),
        tensor('module.queue_ptr', [1], 'I64'),
      ],
      prefix: 'module.encoder_q.',
      ignored: [
        ['module.encoder_q.fc', 4],
        ['module.encoder_k', 124],
        ['module.queue', 1],
        ['module.queue_ptr', 1],
      ],
    },
    {
      tool: 'MoCo, its query encoder alone',
      tensors: withHead('module.encoder_q.'),
      prefix: 'module.encoder_q.',
      ignored: [['module.encoder_q.fc', 4]],
    },
    {
      tool: 'SimCLR',
      tensors: withHead('backbone.'),
      prefix: 'backbone.',
      ignored: [['backbone.fc', 4]],
    },
    {
      tool: 'SwAV: heads under the prefix of the encoder',
      tensors: [
        ...encoder('RESNET18', 'module.'),
        ...linear('module.projection_head.0', 2048, 512),
        ...norm('module.projection_head.1'),
        ...linear('module.projection_head.3', 128, 2048),
        tensor('module.prototypes.weight', [3000, 128]),
      ],
      prefix: 'module.',
      ignored: [
        ['module.projection_head', 7],
        ['module.prototypes', 1],
      ],
    },
    {
      tool: 'DINO: the teacher, and a head with weight normalisation',
      tensors: [
        ...encoder('RESNET18', 'student.module.backbone.'),
        ...encoder('RESNET18', 'teacher.backbone.'),
        tensor('teacher.head.last_layer.weight_g', [65536, 1]),
      ],
      prefix: 'teacher.backbone.',
      ignored: [
        ['student', 120],
        ['teacher.head', 1],
      ],
    },
    {
      tool: 'MoCo v3: a base encoder and its momentum copy',
      tensors: [
        ...encoder('RESNET50', 'state_dict.module.base_encoder.'),
        ...encoder('RESNET50', 'state_dict.module.momentum_encoder.'),
        ...linear('state_dict.module.predictor.0', 4096, 256),
      ],
      prefix: 'state_dict.module.base_encoder.',
      ignored: [
        ['state_dict.module.momentum_encoder', 318],
        ['state_dict.module.predictor', 2],
      ],
    },
    { tool: "DINO's teacher alone", tensors: encoder('RESNET50', 'teacher.'), prefix: 'teacher.', ignored: [] },
    {
      tool: 'Barlow Twins',
      tensors: [
        ...encoder('RESNET18', 'model.module.backbone.'),
        ...linear('model.module.projector.0', 8192, 512),
        ...norm('model.module.bn'),
      ],
      prefix: 'model.module.backbone.',
      ignored: [
        ['model.module.projector', 2],
        ['model.module.bn', 3],
      ],
    },
    {
      tool: 'VISSL',
      tensors: [
        ...encoder('RESNET18', 'classy_state_dict.base_model.model.trunk._feature_blocks.'),
        ...linear('classy_state_dict.base_model.model.heads.0.clf', 128, 512),
      ],
      prefix: 'classy_state_dict.base_model.model.trunk._feature_blocks.',
      ignored: [['classy_state_dict.base_model.model.heads', 2]],
    },
    {
      tool: 'solo-learn: an encoder and its momentum copy',
      tensors: [
        ...encoder('RESNET18', 'backbone.'),
        ...encoder('RESNET18', 'momentum_backbone.'),
        ...linear('projector.0', 256, 512),
      ],
      stated: 'momentum_backbone.',
      prefix: 'momentum_backbone.',
      ignored: [
        ['backbone', 120],
        ['projector', 2],
      ],
    },
    {
      tool: 'timm: weights and their average',
      tensors: [...encoder('RESNET18', 'state_dict.'), ...encoder('RESNET18', 'state_dict_ema.')],
      stated: 'state_dict_ema.',
      prefix: 'state_dict_ema.',
      ignored: [['state_dict', 120]],
    },
    {
      tool: 'lightly: positions in nn.Sequential',
      tensors: [...sequential('backbone.'), ...linear('projection_head.layers.0', 512, 512)],
      prefix: 'backbone.',
      ignored: [['projection_head', 2]],
    },
    { tool: 'nn.Sequential alone', tensors: sequential(''), prefix: '', ignored: [] },
    {
      tool: 'nn.Sequential with a linear layer after the pooling',
      tensors: [...sequential(''), ...linear('10', 5, 512)],
      prefix: '',
      ignored: [['10', 2]],
    },
    { tool: 'torch.compile', tensors: encoder('RESNET18', '_orig_mod.'), prefix: '_orig_mod.', ignored: [] },
    {
      tool: 'torch.compile below DataParallel',
      tensors: encoder('RESNET18', 'module._orig_mod.'),
      prefix: 'module._orig_mod.',
      ignored: [],
    },
    {
      tool: 'a linear evaluation of three layers',
      tensors: [...encoder(), ...head(''), tensor('fc.5.weight', [10, 128])],
      prefix: '',
      ignored: [['fc', 5]],
    },
    {
      tool: 'normalisation and metrics as buffers, under the prefix',
      tensors: [
        ...encoder(),
        tensor('mean', [1, 3, 1, 1]),
        tensor('normalize.std', [3]),
        tensor('train_acc.tp', [5], 'I64'),
        tensor('criterion.weight', [5]),
      ],
      prefix: '',
      ignored: [
        ['mean', 1],
        ['normalize', 1],
        ['train_acc', 1],
        ['criterion', 1],
      ],
    },
  ];
  for (const { tool, tensors, stated, prefix, ignored } of files) {
    test(tool, () => {
      if (stated !== undefined) assert.equal(refusal(tensors).reason, 'PREFIX_AMBIGUOUS', 'nothing is chosen unasked');
      const result = mapToEncoder(tensors, stated === undefined ? {} : { prefix: stated });
      assert.ok(result.outcome === 'MAPPED', JSON.stringify(result));
      assert.equal(result.prefix, prefix);
      assert.deepEqual(
        result.ignored.map(({ path, tensorCount }) => [path, tensorCount]),
        ignored,
      );
      const known = (result.projectionHead?.tensors.size ?? 0) + (result.classifier?.tensors.size ?? 0);
      const leftOut = result.ignored.reduce((sum, { tensorCount }) => sum + tensorCount, 0);
      assert.equal(result.tensors.size + known + leftOut, tensors.length, 'every tensor is accounted for');
    });
  }

  for (const dtype of ['F32', 'F64', 'F16', 'BF16', 'I32', 'I64', 'U8']) {
    test(`batch counts as ${dtype}, also with an axis of one element`, () => {
      for (const shape of [[], [1]]) {
        const tensors = encoder().map((each) =>
          each.name.endsWith('num_batches_tracked') ? { ...each, dtype, shape } : each,
        );
        assert.equal(mapToEncoder(tensors).outcome, 'MAPPED');
      }
    });
  }

  test('heads on another level are left out, whatever their purpose', () => {
    const result = mapToEncoder([...encoder('RESNET18', 'encoder.'), ...linear('fc', 10, 2048)]);
    assert.ok(result.outcome === 'MAPPED');
    assert.equal(result.classifier, undefined);
    assert.deepEqual(result.ignored, [{ path: 'fc', tensorCount: 2 }]);
  });
});

describe('an unsupported network, by its name', () => {
  /** Bottleneck blocks in torchvision's layout, of any depth and width. */
  const bottlenecks = (depths: readonly number[], width: number, groupCount: number): MappableTensor[] => [
    tensor('conv1.weight', [64, 3, 7, 7]),
    ...depths.flatMap((depth, layer) =>
      Array.from({ length: depth }, (_none, index) => index).flatMap((index) => {
        const channelCount = width * 2 ** layer;
        const name = `layer${layer + 1}.${index}`;
        return [
          tensor(`${name}.conv1.weight`, [channelCount, 64, 1, 1]),
          tensor(`${name}.conv2.weight`, [channelCount, channelCount / groupCount, 3, 3]),
          tensor(`${name}.conv3.weight`, [256 * 2 ** layer, channelCount, 1, 1]),
        ];
      }),
    ),
  ];
  const stem = (shape: readonly number[]): MappableTensor[] =>
    encoder().map((each) => (each.name === 'conv1.weight' ? { ...each, shape } : each));
  const networks: readonly (readonly [string, readonly MappableTensor[]])[] = [
    ['ResNet-200', bottlenecks([3, 24, 36, 3], 64, 1)],
    ['ResNeXt-50 (32 groups)', bottlenecks([3, 4, 6, 3], 128, 32)],
    ["Wide ResNet-50 (192 channels in the first layer's blocks)", bottlenecks([3, 4, 6, 3], 192, 1)],
    ['ResNet-18 with a 3x3 stem instead of 7x7 (as for CIFAR)', stem([64, 3, 3, 3])],
    ['ResNet-18 with 1 input channel instead of 3 (RGB)', stem([64, 1, 7, 7])],
    ['a ResNet of 3, 5, 7, 3 blocks', bottlenecks([3, 5, 7, 3], 64, 1)],
  ];
  for (const [name, tensors] of networks) {
    test(name, () => {
      const result = refusal(tensors);
      assert.equal(result.reason, 'MISMATCH');
      assert.equal(result.network, name);
    });
  }
});
