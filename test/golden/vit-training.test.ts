/** The backward pass of vision transformers against timm's in float64. */
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import assert from 'node:assert/strict';
import { z } from 'zod';
import { POOLINGS } from '../../src/formats/encoders/index.ts';
import { mapToEncoder } from '../../src/formats/encoders/mapping.ts';
import { openTrainableEncoder, type RowNoise, type TrainableEncoder } from '../../workers/engine/encoders/index.ts';
import { fromDevice, takeGradient } from '../../workers/engine/models/parameter.ts';
import { asRank2, liveTensorCount, readFloats, tf } from '../../workers/engine/tensorflow.ts';
import { formulaImages, formulaVitTensor, noise } from './formula.ts';
import { assertNear, floats, sketchedTensors, type Shown } from './sketch.ts';

const expected = z
  .object({
    oracle: z.string(),
    count: z.int(),
    cases: z.array(
      z.object({
        name: z.string(),
        pooling: z.enum(POOLINGS),
        imageSizePx: z.int(),
        dropPathRate: z.number(),
        specification: z.record(z.string(), z.json()),
        tensors: z.array(z.tuple([z.string(), z.array(z.int())])),
        gradients: sketchedTensors,
      }),
    ),
  })
  .parse(JSON.parse(readFileSync(new URL('vit-training-expected.json', import.meta.url), 'utf8')));
type Case = (typeof expected.cases)[number];

/** The numbers of vit_training_oracle.py, one for each branch of each image. */
const formulaNoise: RowNoise = (row) => {
  const uniforms = noise(`row ${row}`, 64).values();
  return { uniform: () => (uniforms.next().value ?? Number.NaN) + 0.5 };
};

function opened({ tensors, specification, pooling, dropPathRate }: Case, layerDecay = 1): TrainableEncoder {
  const result = mapToEncoder(tensors.map(formulaVitTensor), { specification }, () => assert.fail('nothing to join'));
  assert.ok(result.outcome === 'MAPPED', `refused: ${JSON.stringify(result)}`);
  const weights = [...result.tensors].map(([name, { shape, data }]) => ({ name, dtype: 'F32' as const, shape, data }));
  return openTrainableEncoder(result.description.architecture, weights, pooling, { dropPathRate, layerDecay });
}

/** The gradients for the oracle's images and gradient of the embeddings. */
function gradientsOf(encoder: TrainableEncoder, { imageSizePx }: Case): Shown {
  const images = formulaImages(expected.count, imageSizePx, imageSizePx);
  const embeddings = encoder.forward(images, formulaNoise);
  const gradient = asRank2(tf.tensor(noise('embedding gradient', embeddings.size), embeddings.shape, 'float32'));
  encoder.backward(gradient);
  tf.dispose([images, embeddings, gradient]);
  return floats(
    encoder.parameters.map((parameter) => {
      const value = takeGradient(parameter);
      const named = fromDevice(parameter.name, value, parameter.layout);
      value.dispose();
      return named;
    }),
  );
}

describe(`gradients of vision transformers as ${expected.oracle} computes them`, () => {
  for (const each of expected.cases)
    test(each.name, () => {
      const before = liveTensorCount();
      const encoder = opened(each);
      assertNear(each.name, gradientsOf(encoder, each), each.gradients);
      encoder.dispose();
      assert.equal(liveTensorCount(), before, 'tensors were left behind');
    });
});

const [plain] = expected.cases;
const withDepth = expected.cases.find(({ dropPathRate }) => dropPathRate > 0);
assert.ok(plain !== undefined && withDepth !== undefined);

test('embeddings of a training pass are those of the forward pass, with and without its activations', () => {
  const encoder = opened(withDepth);
  const images = formulaImages(expected.count, withDepth.imageSizePx, withDepth.imageSizePx);
  const [kept, embedded, inference] = [
    encoder.forward(images, formulaNoise),
    encoder.embedInTraining(images, formulaNoise),
    encoder.embed(images),
  ];
  const values = [kept, embedded, inference].map(readFloats);
  assert.deepEqual(values[0], values[1]);
  assert.notDeepEqual(values[0], values[2], 'no image skipped a branch');
  tf.dispose([kept, embedded, inference]);
  encoder.discard();
  const before = liveTensorCount();
  const abandoned = encoder.forward(images, formulaNoise);
  abandoned.dispose();
  encoder.discard();
  assert.equal(liveTensorCount(), before, 'an abandoned pass left tensors behind');
  images.dispose();
  encoder.dispose();
});

test('matrices are decayed, and each layer learns at its own rate', () => {
  const encoder = opened(plain, 0.5);
  const facts = new Map(encoder.parameters.map(({ name, role, rateFactor }) => [name, [role, rateFactor]]));
  const shown = ['cls_token', 'pos_embed', 'patch_embed.proj.weight', 'patch_embed.proj.bias', 'blocks.0.norm1.weight'];
  assert.deepEqual(
    [...shown, 'blocks.1.attn.qkv.weight', 'norm.weight'].map((name) => facts.get(name)),
    [
      ['BIAS_OR_NORM', 0.125],
      ['BIAS_OR_NORM', 0.125],
      ['WEIGHT', 0.125],
      ['BIAS_OR_NORM', 0.125],
      ['BIAS_OR_NORM', 0.25],
      ['WEIGHT', 0.5],
      ['BIAS_OR_NORM', 1],
    ],
  );
  encoder.dispose();
});

test('options out of range are refused', () => {
  assert.throws(() => opened({ ...plain, dropPathRate: 1 }), /dropPathRate must be in \[0, 1\)/);
  assert.throws(() => opened(plain, 0), /layerDecay must be in \(0, 1\]/);
  assert.throws(
    () => openTrainableEncoder({ family: 'NONE', specification: {} }, [], 'CLS'),
    /no network for the encoder family NONE/,
  );
});
