/**
 * Vision transformers (Dosovitskiy et al. 2021, arXiv:2010.11929) as timm 1.0 builds them
 * (`timm.models.vision_transformer`), with the variants of DINOv2 (Oquab et al. 2024, arXiv:2304.07193): registers
 * (Darcet et al. 2024, arXiv:2309.16588), layer scale and SwiGLU. The specification is data; the tensors are those of
 * timm's state dict without `head`.
 */
import { z } from 'zod';
import type { EncoderTensorSpec, Pooling } from '../architecture.ts';

const size = (most: number): z.ZodInt => z.int().min(1).max(most);

/** What names and shapes of tensors do not tell. */
const statedFields = {
  headCount: size(256),
  /** Added to the variance in every layer norm. */
  normEpsilon: z.number().gt(0).max(0.1),
  /** PRE: x + f(norm(x)). POST: x + norm(f(x)), timm's `ResPostBlock`. */
  blockNorm: z.enum(['PRE', 'POST']),
  /**
   * How position embeddings are brought to another grid. ANTIALIASED: bicubic with a filter that grows with the factor,
   * as timm does. PLAIN: bicubic over four neighbours, as Hugging Face transformers does.
   */
  positionResampling: z.enum(['ANTIALIASED', 'PLAIN']),
};

export const statedFactsSchema = z.strictObject(statedFields).partial();

export const vitSpecificationSchema = z
  .strictObject({
    patchSizePx: size(256),
    /** Features of a token. */
    width: size(16_384),
    /** Blocks. */
    depth: size(256),
    /** Features between the two layers of a block's MLP. */
    mlpWidth: size(65_536),
    /** SWIGLU: one layer gives gate and value, the gate first (timm's `SwiGLUPacked`, DINOv2's `w12`). */
    mlp: z.enum(['GELU', 'SWIGLU']),
    hasClassToken: z.boolean(),
    registerCount: z.int().min(0).max(64),
    /**
     * The tokens to which `pos_embed` belongs. PATCHES: timm's `no_embed_class`. CLASS_AND_PATCHES: DINOv2, whose
     * registers have no position. ALL: class token, registers and patches.
     */
    positions: z.enum(['PATCHES', 'CLASS_AND_PATCHES', 'ALL']),
    /** Patches along a side of the square grid of `pos_embed`. */
    gridSize: size(4096),
    hasPatchBias: z.boolean(),
    hasQkvBias: z.boolean(),
    hasLayerScale: z.boolean(),
    /** A layer norm before the first block, as in CLIP. */
    hasPreNorm: z.boolean(),
    /** AFTER_POOLING: timm's `fc_norm`. */
    finalNorm: z.enum(['BEFORE_POOLING', 'AFTER_POOLING']),
    ...statedFields,
  })
  .refine(({ width, headCount }) => width % headCount === 0, {
    path: ['headCount'],
    message: 'must divide the width',
  });
export type VitSpecification = z.infer<typeof vitSpecificationSchema>;

/** Class token and registers, which stand in front of the patches. */
export function prefixCountOf({ hasClassToken, registerCount }: VitSpecification): number {
  return (hasClassToken ? 1 : 0) + registerCount;
}

/** Those prefix tokens that have a position embedding. */
export function prefixPositionsOf(specification: VitSpecification): number {
  switch (specification.positions) {
    case 'PATCHES':
      return 0;
    case 'CLASS_AND_PATCHES':
      return 1;
    case 'ALL':
      return prefixCountOf(specification);
  }
}

/** The state dict in timm's order. */
export function vitTensorSpecs(specification: VitSpecification): EncoderTensorSpec[] {
  const { width, depth, mlp, mlpWidth, patchSizePx, gridSize, registerCount } = specification;
  const weight = (name: string, ...shape: number[]): EncoderTensorSpec => ({
    name,
    shape,
    kind: 'WEIGHT',
    required: true,
  });
  const norm = (name: string): EncoderTensorSpec[] => [weight(`${name}.weight`, width), weight(`${name}.bias`, width)];
  const linear = (name: string, output: number, input: number): EncoderTensorSpec[] => [
    weight(`${name}.weight`, output, input),
    weight(`${name}.bias`, output),
  ];
  const when = (condition: boolean, ...specs: EncoderTensorSpec[]): EncoderTensorSpec[] => (condition ? specs : []);
  return [
    ...when(specification.hasClassToken, weight('cls_token', 1, 1, width)),
    ...when(registerCount > 0, weight('reg_token', 1, registerCount, width)),
    weight('pos_embed', 1, gridSize * gridSize + prefixPositionsOf(specification), width),
    weight('patch_embed.proj.weight', width, 3, patchSizePx, patchSizePx),
    ...when(specification.hasPatchBias, weight('patch_embed.proj.bias', width)),
    ...when(specification.hasPreNorm, ...norm('norm_pre')),
    ...Array.from({ length: depth }, (_, index) => `blocks.${index}`).flatMap((block) => [
      ...norm(`${block}.norm1`),
      weight(`${block}.attn.qkv.weight`, 3 * width, width),
      ...when(specification.hasQkvBias, weight(`${block}.attn.qkv.bias`, 3 * width)),
      ...linear(`${block}.attn.proj`, width, width),
      ...when(specification.hasLayerScale, weight(`${block}.ls1.gamma`, width)),
      ...norm(`${block}.norm2`),
      ...linear(`${block}.mlp.fc1`, mlp === 'SWIGLU' ? 2 * mlpWidth : mlpWidth, width),
      ...linear(`${block}.mlp.fc2`, width, mlpWidth),
      ...when(specification.hasLayerScale, weight(`${block}.ls2.gamma`, width)),
    ]),
    ...norm(specification.finalNorm === 'BEFORE_POOLING' ? 'norm' : 'fc_norm'),
  ];
}

export function vitPoolings({ hasClassToken, finalNorm }: VitSpecification): Pooling[] {
  if (!hasClassToken) return ['MEAN'];
  // `fc_norm` normalises one vector of the network's width, so that two of them cannot go through it.
  return finalNorm === 'AFTER_POOLING' ? ['MEAN', 'CLS'] : ['CLS', 'MEAN', 'CLS_AND_MEAN'];
}

/** The usual sizes by width and depth. */
const SIZES: Readonly<Record<string, string>> = {
  '192,12': 'TI',
  '384,12': 'S',
  '768,12': 'B',
  '1024,24': 'L',
  '1280,32': 'H',
  '1408,40': 'G',
  '1536,24': 'G',
  '1536,40': 'G',
};

/** VIT_B14_REG4; VIT_W64_D2_P8 for sizes that have no letter. */
export function vitName({ width, depth, patchSizePx, registerCount, mlp }: VitSpecification): string {
  const letter = SIZES[`${width},${depth}`];
  const base = letter === undefined ? `VIT_W${width}_D${depth}_P${patchSizePx}` : `VIT_${letter}${patchSizePx}`;
  return `${base}${registerCount === 0 ? '' : `_REG${registerCount}`}${mlp === 'SWIGLU' ? '_SWIGLU' : ''}`;
}
