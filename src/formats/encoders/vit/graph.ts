/** Vision transformers as steps from images to embeddings. */
import type { GraphUse } from '../family.ts';
import { GRAPH_INPUT, GRAPH_OUTPUT, type EncoderGraph, type GraphStep, type PoolTokensStep } from '../graph.ts';
import { tokenOffsets } from './positions.ts';
import { prefixCountOf, type VitSpecification } from './specification.ts';

const OFFSETS = 'token_offsets';

/**
 * The graph for square images of one size: position embeddings belong to a grid, and are brought to this one here.
 *
 * @param weights timm's state dict by name.
 */
export function vitGraph(
  specification: VitSpecification,
  weights: ReadonlyMap<string, Float32Array>,
  { imageSizePx, pooling }: GraphUse,
): EncoderGraph {
  const { patchSizePx, width, depth } = specification;
  const side = imageSizePx / patchSizePx;
  const prefixCount = prefixCountOf(specification);
  const tokenCount = prefixCount + side * side;
  const steps: GraphStep[] = [
    {
      kind: 'PATCH_TOKENS',
      input: GRAPH_INPUT,
      output: 'patches',
      weight: 'patch_embed.proj.weight',
      bias: specification.hasPatchBias ? 'patch_embed.proj.bias' : undefined,
      patchSizePx,
      width,
      prefixCount,
      tokenCount,
      offsets: OFFSETS,
    },
  ];
  let current = 'patches';
  if (specification.hasPreNorm) {
    steps.push(layerNorm(specification, 'norm_pre', current, 'pre'));
    current = 'pre';
  }
  for (let index = 0; index < depth; index += 1) {
    steps.push(...block(specification, `blocks.${index}`, current, tokenCount));
    current = `blocks.${index}`;
  }
  const pool = (input: string, output: string): PoolTokensStep => ({
    kind: 'POOL_TOKENS',
    input,
    output,
    pooling: pooling === 'AVGPOOL' ? 'MEAN' : pooling,
    tokenCount,
    prefixCount,
    width,
  });
  steps.push(
    ...(specification.finalNorm === 'BEFORE_POOLING'
      ? [layerNorm(specification, 'norm', current, 'normalised'), pool('normalised', GRAPH_OUTPUT)]
      : [pool(current, 'pooled'), layerNorm(specification, 'fc_norm', 'pooled', GRAPH_OUTPUT)]),
  );
  const data = tokenOffsets(specification, weights, side, side);
  return { steps, constants: [{ name: OFFSETS, shape: [1, tokenCount, width], data }], imageSizePx };
}

function layerNorm(
  { width, normEpsilon: epsilon }: VitSpecification,
  name: string,
  input: string,
  output: string,
): GraphStep {
  return { kind: 'LAYER_NORM', input, output, scale: `${name}.weight`, offset: `${name}.bias`, width, epsilon };
}

function block(specification: VitSpecification, name: string, input: string, tokenCount: number): GraphStep[] {
  const { width, headCount, mlp, mlpWidth, blockNorm, hasLayerScale, hasQkvBias } = specification;
  const linear = (layer: string, from: string, hasBias = true): GraphStep => ({
    kind: 'LINEAR',
    input: from,
    output: `${name}.${layer}`,
    weight: `${name}.${layer}.weight`,
    bias: hasBias ? `${name}.${layer}.bias` : undefined,
  });
  /** x + scale(f(norm(x))), or x + scale(norm(f(x))). */
  const residual = (
    part: 1 | 2,
    from: string,
    to: string,
    layers: (start: string) => readonly [steps: readonly GraphStep[], end: string],
  ): GraphStep[] => {
    const norm = (start: string): GraphStep =>
      layerNorm(specification, `${name}.norm${part}`, start, `${name}.norm${part}`);
    const [steps, end] = layers(blockNorm === 'PRE' ? `${name}.norm${part}` : from);
    const branch = blockNorm === 'PRE' ? [norm(from), ...steps] : [...steps, norm(end)];
    const last = blockNorm === 'PRE' ? end : `${name}.norm${part}`;
    if (!hasLayerScale) return [...branch, { kind: 'ADD', left: from, right: last, output: to }];
    const scaled = `${name}.ls${part}`;
    return [
      ...branch,
      { kind: 'SCALE', input: last, output: scaled, factor: `${scaled}.gamma` },
      { kind: 'ADD', left: from, right: scaled, output: to },
    ];
  };
  const activated = `${name}.mlp.act`;
  return [
    ...residual(1, input, `${name}.attended`, (start) => [
      [
        linear('attn.qkv', start, hasQkvBias),
        { kind: 'ATTENTION', input: `${name}.attn.qkv`, output: `${name}.attn`, tokenCount, headCount, width },
        linear('attn.proj', `${name}.attn`),
      ],
      `${name}.attn.proj`,
    ]),
    ...residual(2, `${name}.attended`, name, (start) => [
      [
        linear('mlp.fc1', start),
        mlp === 'GELU'
          ? { kind: 'GELU', input: `${name}.mlp.fc1`, output: activated }
          : { kind: 'SWIGLU', input: `${name}.mlp.fc1`, output: activated, inputWidth: 2 * mlpWidth },
        linear('mlp.fc2', activated),
      ],
      `${name}.mlp.fc2`,
    ]),
  ];
}
