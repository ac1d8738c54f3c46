/**
 * The ResNets of torchvision (He et al. 2016, arXiv:1512.03385) as names and shapes: the state dict of ResNet-18, 34,
 * 50, 101 or 152, or of a wide one (Zagoruyko and Komodakis 2016, arXiv:1605.07146), without the last layer `fc`.
 */
import { isDeepStrictEqual } from 'node:util';
import { z } from 'zod';
import type { Architecture, EncoderTensorSpec } from '../architecture.ts';

/** The networks that the API's enum names, and that a training can start from new weights. */
export const RESNET_ARCHITECTURES = ['RESNET18', 'RESNET34', 'RESNET50', 'RESNET101'] as const;
/** Every network of the family. */
export const RESNET_NAMES = [...RESNET_ARCHITECTURES, 'RESNET152', 'WIDE_RESNET50_2', 'WIDE_RESNET101_2'] as const;
export type ResnetName = (typeof RESNET_NAMES)[number];

/** The structure of one of torchvision's networks; the stem and the widths of the layers are the same in all. */
export const resnetPlanSchema = z.strictObject({
  /** BASIC: two 3x3 convolutions. BOTTLENECK: 1x1, 3x3 and 1x1 with four times the channels. */
  block: z.enum(['BASIC', 'BOTTLENECK']),
  /** Blocks in each of the four layers. */
  depths: z.tuple([z.int(), z.int(), z.int(), z.int()]),
  /** Factor of the channels inside a bottleneck, left out for 1; the channels between blocks do not change. */
  widthFactor: z.literal(2).optional(),
});
export type ResnetPlan = z.infer<typeof resnetPlanSchema>;

export const RESNET_PLANS: Readonly<Record<ResnetName, ResnetPlan>> = {
  RESNET18: { block: 'BASIC', depths: [2, 2, 2, 2] },
  RESNET34: { block: 'BASIC', depths: [3, 4, 6, 3] },
  RESNET50: { block: 'BOTTLENECK', depths: [3, 4, 6, 3] },
  RESNET101: { block: 'BOTTLENECK', depths: [3, 4, 23, 3] },
  RESNET152: { block: 'BOTTLENECK', depths: [3, 8, 36, 3] },
  WIDE_RESNET50_2: { block: 'BOTTLENECK', depths: [3, 4, 6, 3], widthFactor: 2 },
  WIDE_RESNET101_2: { block: 'BOTTLENECK', depths: [3, 4, 23, 3], widthFactor: 2 },
};
export const STEM_CHANNELS = 64;
export const STAGE_WIDTHS = [64, 128, 256, 512] as const;

/** One of torchvision's networks as an architecture. */
export function resnetArchitecture(name: ResnetName): Architecture {
  const { widthFactor, ...plan } = RESNET_PLANS[name];
  return { family: 'RESNET', specification: { ...plan, ...(widthFactor === undefined ? {} : { widthFactor }) } };
}

/** The smallest side of an image, in px, for which the last stage has a pixel that is not padding. */
export const MIN_IMAGE_SIDE_PX = 32;

/**
 * The network of an architecture's specification.
 *
 * @throws ZodError for anything that is not a plan; RangeError for a plan that is not one of torchvision's.
 */
export function resnetSpecified(specification: unknown): ResnetName {
  const name = resnetNameOf(resnetPlanSchema.parse(specification));
  if (name === undefined) throw new RangeError(`${JSON.stringify(specification)} is not one of torchvision's ResNets.`);
  return name;
}

/** The name of a structure; undefined if torchvision has no such network. */
export function resnetNameOf(plan: ResnetPlan): ResnetName | undefined {
  return RESNET_NAMES.find((name) => isDeepStrictEqual(RESNET_PLANS[name], plan));
}

/** D, the length of the embedding: 512 or 2048. */
export function embeddingDimOf(architecture: ResnetName): 512 | 2048 {
  return RESNET_PLANS[architecture].block === 'BASIC' ? 512 : 2048;
}

/** Every tensor of the state dict but `fc`, in its order. */
export function resnetTensorSpecs(architecture: ResnetName): EncoderTensorSpec[] {
  const { block, depths, widthFactor = 1 } = RESNET_PLANS[architecture];
  const specs = unitSpecs('conv1', 'bn1', [STEM_CHANNELS, 3, 7]);
  let channels = STEM_CHANNELS;
  STAGE_WIDTHS.forEach((width, layer) => {
    for (let index = 0; index < (depths[layer] ?? 0); index += 1) {
      const name = `layer${layer + 1}.${index}`;
      const outChannels = block === 'BASIC' ? width : width * 4;
      const inner = width * widthFactor;
      const convolutions: [number, number, number][] =
        block === 'BASIC'
          ? [
              [width, channels, 3],
              [width, width, 3],
            ]
          : [
              [inner, channels, 1],
              [inner, inner, 3],
              [outChannels, inner, 1],
            ];
      convolutions.forEach((shape, position) =>
        specs.push(...unitSpecs(`${name}.conv${position + 1}`, `${name}.bn${position + 1}`, shape)),
      );
      // The first block of a layer changes the size or the channels, so its shortcut is a convolution.
      const reshapes = index === 0 && (layer > 0 || channels !== outChannels);
      if (reshapes)
        specs.push(...unitSpecs(`${name}.downsample.0`, `${name}.downsample.1`, [outChannels, channels, 1]));
      channels = outChannels;
    }
  });
  return specs;
}

/** A convolution without bias and its batch norm. */
function unitSpecs(
  convolution: string,
  norm: string,
  [outChannels, inChannels, size]: readonly [number, number, number],
): EncoderTensorSpec[] {
  const perChannel = (kind: 'WEIGHT' | 'STATISTIC', part: string): EncoderTensorSpec => ({
    name: `${norm}.${part}`,
    shape: [outChannels],
    kind,
    required: true,
  });
  return [
    { name: `${convolution}.weight`, shape: [outChannels, inChannels, size, size], kind: 'WEIGHT', required: true },
    perChannel('WEIGHT', 'weight'),
    perChannel('WEIGHT', 'bias'),
    perChannel('STATISTIC', 'running_mean'),
    perChannel('STATISTIC', 'running_var'),
    { name: `${norm}.num_batches_tracked`, shape: [], kind: 'BATCH_COUNT', required: false },
  ];
}

/**
 * The architecture by what distinguishes them: bottlenecks have a third convolution, depths differ, and the first
 * bottleneck of a wide network has twice the channels. Undefined if the names belong to none of them. Other shapes are
 * not checked here, because `mapToEncoder` lists tensors with wrong shapes.
 */
export function detectArchitecture(
  tensors: readonly { readonly name: string; readonly shape: readonly number[] }[],
): ResnetName | undefined {
  const shapes = new Map(tensors.map(({ name, shape }) => [name, shape]));
  const block = shapes.has('layer1.0.conv3.weight') ? 'BOTTLENECK' : 'BASIC';
  const depths = STAGE_WIDTHS.map((_width, layer) => {
    let depth = 0;
    while (shapes.has(`layer${layer + 1}.${depth}.conv1.weight`)) depth += 1;
    return depth;
  });
  const [first = 0, second = 0, third = 0, fourth = 0] = depths;
  const isWide = block === 'BOTTLENECK' && shapes.get('layer1.0.conv1.weight')?.[0] === 2 * STAGE_WIDTHS[0];
  return resnetNameOf({ block, depths: [first, second, third, fourth], ...(isWide ? { widthFactor: 2 } : {}) });
}
