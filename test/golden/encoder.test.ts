import { readFileSync } from 'node:fs';
import { test, describe } from 'node:test';
import assert from 'node:assert/strict';
import { z } from 'zod';
import { ENCODER_ARCHITECTURES, encoderFromWeights } from '../../workers/engine/encoders/resnet/network.ts';
import { fromDevice } from '../../workers/engine/models/parameter.ts';
import { asRank2, liveTensorCount, readFloats, tf } from '../../workers/engine/tensorflow.ts';
import { formulaImages, formulaWeights, noise } from './formula.ts';

const summary = z.object({ norm: z.number(), entries: z.array(z.tuple([z.number(), z.number()])) });
const rows = z.array(z.array(z.number()));
const expectedFile = z.object({
  oracle: z.string(),
  cases: z.array(
    z.object({
      architecture: z.enum(ENCODER_ARCHITECTURES),
      count: z.number(),
      heightPx: z.number(),
      widthPx: z.number(),
      embeddings: rows,
      embeddingNorms: z.array(z.number()),
      training: z
        .object({
          embeddings: rows,
          gradients: z.record(z.string(), summary.extend({ float32Error: z.number(), float32NormError: z.number() })),
          statistics: z.record(z.string(), summary),
        })
        .optional(),
    }),
  ),
});
const expected = expectedFile.parse(
  JSON.parse(readFileSync(new URL('encoder-expected.json', import.meta.url), 'utf8')),
);

/** The length of the difference against the length of what was expected. */
function relativeDifference(actual: readonly number[], wanted: readonly number[]): number {
  assert.equal(actual.length, wanted.length);
  const difference = Math.hypot(...wanted.map((value, index) => value - (actual[index] ?? Number.NaN)));
  return difference / Math.hypot(...wanted);
}

function norm(values: Float32Array): number {
  return Math.sqrt(values.reduce((sum, value) => sum + value * value, 0));
}

/**
 * Norm and picked entries of a tensor, held to the tensor's own typical size, because single entries may be near zero.
 */
function checkSummary(
  name: string,
  values: Float32Array,
  wanted: z.infer<typeof summary>,
  tolerance: number,
  normTolerance = tolerance,
): void {
  const actualNorm = norm(values);
  assert.ok(
    Math.abs(actualNorm - wanted.norm) <= normTolerance * wanted.norm,
    `${name}: norm ${actualNorm}, expected ${wanted.norm}`,
  );
  const typical = wanted.norm / Math.sqrt(values.length);
  for (const [position, entry] of wanted.entries) {
    const actual = values[position] ?? Number.NaN;
    assert.ok(
      Math.abs(actual - entry) <= tolerance * Math.max(typical, Math.abs(entry)),
      `${name}[${position}]: ${actual}, expected ${entry}`,
    );
  }
}

describe(`encoders against ${expected.oracle}`, () => {
  for (const { architecture, count, heightPx, widthPx, embeddings, embeddingNorms, training } of expected.cases) {
    test(`${architecture}, ${count} images of ${heightPx}x${widthPx} px`, () => {
      const tensorsBefore = liveTensorCount();
      const encoder = encoderFromWeights(architecture, formulaWeights(architecture));
      const images = formulaImages(count, heightPx, widthPx);

      const inference = encoder.embed(images);
      const flat = readFloats(inference);
      inference.dispose();
      embeddings.forEach((wanted, row) => {
        const actual = flat.subarray(row * encoder.embeddingDim, (row + 1) * encoder.embeddingDim);
        assert.ok(relativeDifference([...actual.subarray(0, wanted.length)], wanted) < 1e-4);
        assert.ok(Math.abs(norm(actual) / (embeddingNorms[row] ?? Number.NaN) - 1) < 1e-4);
      });

      if (training !== undefined) {
        const trained = encoder.forward(images);
        const trainedFlat = readFloats(trained);
        training.embeddings.forEach((wanted, row) => {
          const actual = trainedFlat.subarray(row * encoder.embeddingDim, row * encoder.embeddingDim + wanted.length);
          assert.ok(relativeDifference([...actual], wanted) < 1e-4);
        });
        const gradient = asRank2(tf.tensor(noise('embedding gradient', trained.size), trained.shape, 'float32'));
        encoder.backward(gradient);
        encoder.commitStatistics();
        tf.dispose([trained, gradient]);
        const names = encoder.parameters.map(({ name }) => name);
        // As in sketch.ts: three times the worst of PyTorch's own, because one activation on the other side of zero
        // moves many tensors.
        const normTolerance = Math.max(
          1e-3,
          3 * Math.max(...Object.values(training.gradients).map(({ float32NormError }) => float32NormError)),
        );
        assert.deepEqual([...names].sort(), Object.keys(training.gradients).sort());
        for (const parameter of encoder.parameters) {
          const wanted = training.gradients[parameter.name];
          assert.ok(parameter.gradient !== undefined && wanted !== undefined);
          const outside = fromDevice(parameter.name, parameter.gradient, parameter.layout);
          assert.ok(outside.dtype === 'F32');
          checkSummary(
            `gradient of ${parameter.name}`,
            outside.data,
            wanted,
            Math.max(1e-3, 2 * wanted.float32Error),
            normTolerance,
          );
        }
        for (const tensor of encoder.weights()) {
          if (tensor.dtype === 'I64') assert.equal(tensor.data[0], 8n);
          const wanted = training.statistics[tensor.name];
          if (wanted !== undefined && tensor.dtype === 'F32') checkSummary(tensor.name, tensor.data, wanted, 1e-3);
        }
      }
      encoder.dispose();
      images.dispose();
      assert.equal(liveTensorCount(), tensorsBefore);
    });
  }
});
