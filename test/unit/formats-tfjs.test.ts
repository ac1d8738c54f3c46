import '../support/without-onednn.ts';
import { test, describe } from 'node:test';
import assert from 'node:assert/strict';
import { io } from '@tensorflow/tfjs';
import { z } from 'zod';
import { WeightsMismatchError } from '../../src/formats/tensor-check.ts';
import type { StoredZipEntry } from '../../src/formats/stored-zip.ts';
import { tfjsFiles, writeTfjsZip } from '../../src/formats/tfjs.ts';
import { embeddingDimOf, resnetArchitecture } from '../../src/formats/encoders/resnet/specification.ts';
import { encoderFromWeights } from '../../workers/engine/encoders/resnet/network.ts';
import { asRank4, liveTensorCount, readFloats, tf } from '../../workers/engine/tensorflow.ts';
import { encoderToExport, FILE_CONTRACT } from '../support/encoder-export.ts';

const modelFile = z.object({
  format: z.literal('graph-model'),
  userDefinedMetadata: z.record(z.string(), z.string()),
  modelTopology: z.object({
    node: z.array(z.object({ name: z.string(), op: z.string(), input: z.array(z.string()).default([]) })),
  }),
  weightsManifest: z.tuple([
    z.object({
      paths: z.array(z.string()),
      weights: z.array(z.object({ name: z.string(), shape: z.array(z.number()), dtype: z.enum(['float32', 'int32']) })),
    }),
  ]),
});

function modelJson(files: readonly StoredZipEntry[]): string {
  const [model] = files;
  assert.equal(model?.name, 'model.json');
  return new TextDecoder().decode(model?.data);
}

async function load(files: readonly StoredZipEntry[]): Promise<tf.GraphModel> {
  const artifacts: io.ModelJSON = JSON.parse(modelJson(files));
  return tf.loadGraphModel({
    load: async () =>
      io.getModelArtifactsForJSON(artifacts, async (manifest) => [
        manifest.flatMap(({ weights }) => weights),
        new Uint8Array(Buffer.concat(files.slice(1).map(({ data }) => data))).buffer,
      ]),
  });
}

describe('TF.js', () => {
  // Odd and even sides on both kinds of block: where symmetric padding and TensorFlow's SAME differ.
  for (const [architecture, heightPx, widthPx] of [
    ['RESNET18', 47, 36],
    ['RESNET50', 32, 33],
  ] as const) {
    test(`${architecture}: plain TensorFlow.js embeds as the engine does`, async () => {
      const source = encoderToExport(architecture);
      await tf.setBackend('tensorflow');
      const encoder = encoderFromWeights(architecture, source.tensors);
      const pixels = Float32Array.from(
        { length: 2 * heightPx * widthPx * 3 },
        (_, index) => Math.sin(index * 0.37) + Math.cos(index * 0.011),
      );
      const images = asRank4(tf.tensor(pixels, [2, heightPx, widthPx, 3], 'float32'));
      const expectedTensor = encoder.embed(images);
      const expected = readFloats(expectedTensor);
      tf.dispose([images, expectedTensor]);
      encoder.dispose();

      await tf.setBackend('cpu');
      const before = liveTensorCount();
      const model = await load(tfjsFiles(source));
      assert.deepEqual(
        model.inputs.map(({ name, shape }) => ({ name, shape })),
        [{ name: 'images', shape: [-1, -1, -1, 3] }],
      );
      assert.deepEqual(
        model.outputs.map(({ name }) => name),
        ['embeddings'],
      );
      const input = tf.tensor4d(pixels, [2, heightPx, widthPx, 3]);
      const output = model.predict(input);
      assert.ok(output instanceof tf.Tensor);
      assert.deepEqual(output.shape, [2, embeddingDimOf(architecture)]);
      const actual = await output.data();
      tf.dispose([input, output]);
      model.dispose();
      assert.equal(liveTensorCount(), before);
      const difference = Math.hypot(...expected.map((value, index) => value - (actual[index] ?? Number.NaN)));
      assert.ok(difference < 1e-4 * Math.hypot(...expected), `the embeddings differ by ${difference}`);
    });
  }

  test('the shards match the manifest, in pieces of 4 MiB; every input of a node is a node', () => {
    const source = encoderToExport('RESNET18');
    const files = tfjsFiles(source);
    const { modelTopology, weightsManifest, userDefinedMetadata } = modelFile.parse(JSON.parse(modelJson(files)));
    const [{ paths, weights }] = weightsManifest;
    assert.deepEqual(
      files.slice(1).map(({ name }) => name),
      paths,
    );
    assert.equal(paths[0], `group1-shard1of${paths.length}.bin`);
    assert.ok(files.slice(1, -1).every(({ data }) => data.byteLength === 4 * 1024 * 1024));
    const byteCount = weights.reduce(
      (sum, { shape }) => sum + 4 * shape.reduce((product, side) => product * side, 1),
      0,
    );
    assert.equal(
      files.slice(1).reduce((sum, { data }) => sum + data.byteLength, 0),
      byteCount,
    );
    const names = new Set(modelTopology.node.map(({ name }) => name));
    assert.equal(names.size, modelTopology.node.length);
    for (const { name, input } of modelTopology.node)
      for (const from of input) assert.ok(names.has(from), `${name} reads ${from}`);
    assert.deepEqual(JSON.parse(userDefinedMetadata['inputContract'] ?? ''), FILE_CONTRACT);
    assert.equal(userDefinedMetadata['architecture'], 'RESNET18');
  });

  test('is identical each time, and refuses weights of another network', () => {
    const source = encoderToExport('RESNET18');
    assert.ok(
      Buffer.from(writeTfjsZip(source)).equals(writeTfjsZip({ ...source, tensors: source.tensors.toReversed() })),
    );
    assert.throws(
      () => writeTfjsZip({ ...source, architecture: resnetArchitecture('RESNET50') }),
      WeightsMismatchError,
    );
  });
});
