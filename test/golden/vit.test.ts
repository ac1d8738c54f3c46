/**
 * Vision transformers against timm and Hugging Face transformers: names are mapped strictly, the engine gives their
 * embeddings, and the exported files give the engine's.
 */
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import assert from 'node:assert/strict';
import { z } from 'zod';
import { writeExport } from '../../src/formats/export-formats.ts';
import { POOLINGS } from '../../src/formats/encoders/index.ts';
import { mapToEncoder } from '../../src/formats/encoders/mapping.ts';
import { openEncoder } from '../../workers/engine/encoders/index.ts';
import type { NamedTensor } from '../../workers/engine/named-tensor.ts';
import { asRank2, asRank4, liveTensorCount, readFloats, scoped, tf } from '../../workers/engine/tensorflow.ts';
import { checkExport, checkReference } from '../../workers/exports/check.ts';
import { maxRelativeDifferenceOfImages } from '../../workers/exports/difference.ts';
import { EXPORT_CONTRACT } from '../support/encoder-export.ts';
import { formulaImages, formulaVitTensor, type VitTensor } from './formula.ts';

const expected = z
  .object({
    oracle: z.string(),
    count: z.int(),
    cases: z.array(
      z.object({
        name: z.string(),
        pooling: z.enum(POOLINGS),
        imageSizePx: z.int(),
        specification: z.record(z.string(), z.json()),
        normEpsilon: z.number(),
        tensors: z.array(z.tuple([z.string(), z.array(z.int())])),
        embeddings: z.array(z.array(z.number())),
      }),
    ),
  })
  .parse(JSON.parse(readFileSync(new URL('vit-expected.json', import.meta.url), 'utf8')));
type Case = (typeof expected.cases)[number];

/** Of the embedding's root mean square, as of every export. */
const TOLERANCE = 1e-4;

function join(name: string, parts: readonly VitTensor[]): VitTensor {
  const rows = parts.reduce((sum, { shape }) => sum + (shape[0] ?? 0), 0);
  const data = Float32Array.from(parts.flatMap((part) => [...part.data]));
  return { name, dtype: 'F32', shape: [rows, ...(parts[0]?.shape.slice(1) ?? [])], data };
}

function mapped({ tensors, specification }: Case) {
  const result = mapToEncoder(tensors.map(formulaVitTensor), { specification }, join);
  assert.ok(result.outcome === 'MAPPED', `refused: ${JSON.stringify(result)}`);
  const weights = [...result.tensors].map(([name, { dtype, shape, data }]): NamedTensor => ({
    name,
    dtype,
    shape,
    data,
  }));
  return { ...result, weights };
}

describe(`vision transformers as ${expected.oracle} computes them`, () => {
  for (const each of expected.cases) {
    test(`${each.name}: the engine's embedding`, () => {
      const { description, weights } = mapped(each);
      const { family, specification } = description.architecture;
      assert.equal(family, 'VIT');
      // Embeddings of these weights are too much alike to tell one epsilon from another.
      assert.equal(specification['normEpsilon'], each.normEpsilon);
      assert.equal(description.embeddingDim(each.pooling), each.embeddings[0]?.length);
      const before = liveTensorCount();
      const encoder = openEncoder({ family, specification }, weights, each.pooling);
      const images = formulaImages(expected.count, each.imageSizePx, each.imageSizePx);
      const embed = (first: number, count: number): Float32Array => {
        const embeddings = scoped(() => asRank2(encoder.embed(asRank4(tf.slice(images, first, count)))));
        const values = readFloats(embeddings);
        embeddings.dispose();
        return values;
      };
      const wanted = Float32Array.from(each.embeddings.flat());
      const differences = [
        maxRelativeDifferenceOfImages(embed(0, expected.count), wanted, encoder.embeddingDim),
        // Again and alone: an embedding depends on nothing but its image.
        maxRelativeDifferenceOfImages(embed(1, 1), wanted.slice(encoder.embeddingDim), encoder.embeddingDim),
      ];
      const difference = Math.max(...differences);
      images.dispose();
      encoder.dispose();
      assert.ok(difference <= TOLERANCE, `differs by ${difference}`);
      assert.equal(liveTensorCount(), before, 'tensors were left behind');
    });
  }

  for (const each of expected.cases) {
    for (const format of ['PYTORCH', 'ONNX', 'TFJS'] as const) {
      test(`${each.name}: as ${format} it gives the engine's embedding`, async () => {
        const { description, weights } = mapped(each);
        const { architecture } = description;
        const inputContract = { ...EXPORT_CONTRACT, imageSizePx: each.imageSizePx, pooling: each.pooling };
        const encoder = openEncoder(architecture, weights, each.pooling);
        const { channelMean, channelStd, imageSizePx, pooling } = inputContract;
        const reference = checkReference(encoder, architecture, { channelMean, channelStd, imageSizePx, pooling });
        encoder.dispose();
        const file = writeExport(format, { architecture, tensors: weights, inputContract, metadata: {} });
        const verdict = await checkExport(format, file, reference);
        assert.ok(verdict.passed, JSON.stringify(verdict));
      });
    }
  }
});

test("DINOv2's own names give the same tensors as timm's", () => {
  const [packed] = expected.cases.filter(({ name }) => name === 'packed SwiGLU, eight registers');
  assert.ok(packed !== undefined);
  const own = packed.tensors.map(formulaVitTensor);
  const inFile = own.map((each) => ({
    ...each,
    name: `teacher.backbone.${each.name.replace('reg_token', 'register_tokens').replace('.fc1.', '.w12.').replace('.fc2.', '.w3.')}`,
  }));
  const unused = { ...formulaVitTensor(['mask_token', [1, 24]]), name: 'teacher.backbone.mask_token' };
  const { specification } = packed;
  const result = mapToEncoder([...inFile, unused], { specification, prefix: 'teacher.backbone.' }, join);
  assert.ok(result.outcome === 'MAPPED', JSON.stringify(result));
  assert.deepEqual(
    [...result.tensors].map(([name, { data }]) => [name, data]),
    [...mapped(packed).tensors].map(([name, { data }]) => [name, data]),
  );
  assert.deepEqual(result.ignored, [{ path: 'teacher.backbone.mask_token', tensorCount: 1 }]);
});

describe('a vision transformer is refused', () => {
  const [plain] = expected.cases;
  assert.ok(plain !== undefined);
  const tensors = plain.tensors.map(formulaVitTensor);
  const refusal = (given: readonly VitTensor[], specification: Case['specification'] = plain.specification) => {
    const result = mapToEncoder(given, { specification }, join);
    assert.ok(result.outcome === 'REFUSED', 'it was mapped');
    return result;
  };

  test('with a tensor that nothing explains', () => {
    const strange = formulaVitTensor(['blocks.0.attn.q_norm.weight', [6]]);
    const { reason, unexpected } = refusal([...tensors, strange]);
    assert.deepEqual([reason, unexpected], ['MISMATCH', ['blocks.0.attn.q_norm.weight']]);
  });
  test('without one of its tensors', () => {
    const { reason, missing } = refusal(tensors.filter(({ name }) => name !== 'blocks.1.mlp.fc2.bias'));
    assert.deepEqual([reason, missing], ['MISMATCH', ['blocks.1.mlp.fc2.bias']]);
  });
  test('whose heads are not known from its width', () => {
    const { reason, fault } = refusal(tensors, {});
    assert.deepEqual([reason, fault], ['SPECIFICATION_INVALID', 'headCount is unknown for a width of 24']);
  });
  test('whose heads do not divide its width', () => {
    assert.match(refusal(tensors, { headCount: 5 }).fault ?? '', /headCount must divide the width/);
  });
  test('about which something is stated that the tensors tell', () => {
    assert.match(refusal(tensors, { headCount: 4, depth: 3 }).fault ?? '', /depth/);
  });
  test('whose blocks are named otherwise, which nobody can state', () => {
    const chunked = tensors.map((each) => ({ ...each, name: each.name.replace(/^blocks\./, 'blocks.0.') }));
    const { reason, network, unexpected } = refusal(chunked);
    assert.deepEqual([reason, unexpected.length], ['MISMATCH', tensors.length]);
    assert.match(network ?? '', /other names or sizes than are known \(depth, mlpWidth\)/);
  });
  test("without one of its tensors, named as in DINOv2's own file", () => {
    const masked = [...tensors, formulaVitTensor(['mask_token', [1, 24]])];
    const { missing } = refusal(masked.filter(({ name }) => name !== 'blocks.1.mlp.fc2.bias'));
    assert.deepEqual(missing, ['blocks.1.mlp.fc2.bias']);
  });
  test('whose positions form no square', () => {
    const others = tensors.filter(({ name }) => name !== 'pos_embed');
    const { network } = refusal([...others, formulaVitTensor(['pos_embed', [1, 15, 24]])]);
    assert.match(network ?? '', /15 position embeddings/);
  });
  test('with queries but no keys, as Hugging Face stores them', () => {
    const stored = expected.cases.find(({ name }) => name === 'Hugging Face ViT');
    assert.ok(stored !== undefined);
    const key = 'encoder.layer.1.attention.attention.key.weight';
    const { missing, unexpected } = refusal(
      stored.tensors.filter(([name]) => name !== key).map(formulaVitTensor),
      stored.specification,
    );
    assert.deepEqual(missing, ['encoder.layer.1.attention.attention.{query,key,value}.weight']);
    assert.equal(unexpected.length, 2);
  });
});
