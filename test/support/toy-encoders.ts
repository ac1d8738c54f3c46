/**
 * An encoder family that is not part of the program: the mean over 4x4 patches of one linear map. It proves that a
 * family is its folder and two lines.
 */
import { z } from 'zod';
import type { EncoderDescription, EncoderFamily } from '../../src/formats/encoders/family.ts';
import { GRAPH_INPUT, GRAPH_OUTPUT } from '../../src/formats/encoders/graph.ts';
import type { EncoderNetwork } from '../../workers/engine/encoders/encoder.ts';
import { asRank2, asRank4, tf } from '../../workers/engine/tensorflow.ts';

const PATCH_PX = 4;
const specificationSchema = z.strictObject({ width: z.int().min(1) });
type ToySpecification = z.infer<typeof specificationSchema>;

function described({ width }: ToySpecification): EncoderDescription {
  return {
    architecture: { family: 'TOY', specification: { width } },
    name: `TOY${width}`,
    statedFacts: {},
    fileMetadata: { architecture: `TOY${width}` },
    tensors: [
      { name: 'toy.weight', shape: [width, 3, PATCH_PX, PATCH_PX], kind: 'WEIGHT', required: true },
      { name: 'toy.bias', shape: [width], kind: 'WEIGHT', required: true },
    ],
    poolings: ['MEAN'],
    embeddingDim: () => width,
    imageSizeFault: (sizePx) => (sizePx % PATCH_PX === 0 ? undefined : `${sizePx} px are not whole patches.`),
    checkSizePx: (sizePx) => sizePx,
    graph: (_weights, { imageSizePx }) => {
      const tokenCount = (imageSizePx / PATCH_PX) ** 2;
      const tokens = { tokenCount, prefixCount: 0, width };
      return {
        steps: [
          {
            kind: 'PATCH_TOKENS',
            input: GRAPH_INPUT,
            output: 'patches',
            weight: 'toy.weight',
            bias: 'toy.bias',
            patchSizePx: PATCH_PX,
            offsets: 'nothing',
            ...tokens,
          },
          { kind: 'POOL_TOKENS', input: 'patches', output: GRAPH_OUTPUT, pooling: 'MEAN', ...tokens },
        ],
        constants: [{ name: 'nothing', shape: [1, tokenCount, width], data: new Float32Array(tokenCount * width) }],
        imageSizePx,
      };
    },
  };
}

export const TOY: EncoderFamily = {
  family: 'TOY',
  importable: 'toys',
  names: {
    networksIn: (tensors) =>
      tensors.some(({ name }) => name === 'toy.weight')
        ? [{ prefix: '', naming: 'TOY', tensorCount: 2, isWhole: true }]
        : [],
    ownName: (name) => name,
    nameInFile: (name, { prefix }) => `${prefix}${name}`,
    recognise: (tensors) => {
      const description = described({ width: tensors.find(({ name }) => name === 'toy.weight')?.shape[0] ?? 0 });
      return { description, closest: description, inWords: undefined };
    },
    named: () => undefined,
  },
  describe: (specification) => described(specificationSchema.parse(specification)),
};

export const TOY_NETWORK: EncoderNetwork = {
  family: 'TOY',
  open: (specification, tensors) => {
    const { width } = specificationSchema.parse(specification);
    const valuesOf = (wanted: string): Float32Array => {
      const tensor = tensors.find(({ name }) => name === wanted);
      if (tensor?.dtype !== 'F32') throw new Error(`${wanted} is missing.`);
      return tensor.data;
    };
    const filter = asRank4(
      tf.tidy(() =>
        tf.transpose(tf.tensor4d(valuesOf('toy.weight').slice(), [width, 3, PATCH_PX, PATCH_PX]), [2, 3, 1, 0]),
      ),
    );
    const bias = tf.tensor1d(valuesOf('toy.bias').slice());
    return {
      embeddingDim: width,
      embed: (images) =>
        tf.tidy(() => asRank2(tf.mean(tf.add(tf.conv2d(images, filter, PATCH_PX, 'valid'), bias), [1, 2]))),
      dispose: () => tf.dispose([filter, bias]),
    };
  },
  untrainedWeights: (specification, random) =>
    described(specificationSchema.parse(specification)).tensors.map(({ name, shape }) => ({
      name,
      shape,
      dtype: 'F32',
      data: Float32Array.from({ length: shape.reduce((product, side) => product * side, 1) }, () =>
        random.between(-1, 1),
      ),
    })),
};
