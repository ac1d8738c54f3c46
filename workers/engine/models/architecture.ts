/**
 * The residual networks of He et al. 2016 (arXiv:1512.03385) as torchvision builds them, described as data: the
 * convolutions, and the names and shapes of their weights.
 */
import type { Window } from '../kernels/padding.ts';

export const ENCODER_ARCHITECTURES = ['RESNET18', 'RESNET34', 'RESNET50', 'RESNET101'] as const;
export type EncoderArchitecture = (typeof ENCODER_ARCHITECTURES)[number];

/** A convolution and the batch norm after it. */
export interface ConvolutionUnitSpec {
  /** For example `layer1.0.conv1`, whose filter is stored as `layer1.0.conv1.weight`. */
  readonly convolutionName: string;
  /** `layer1.0.bn1` */
  readonly normName: string;
  readonly inputChannels: number;
  readonly outputChannels: number;
  readonly window: Window;
  readonly activation: 'NONE' | 'RELU';
}

export interface ResidualBlockSpec {
  readonly main: readonly ConvolutionUnitSpec[];
  /** Absent if the block's input is added unchanged. */
  readonly shortcut: ConvolutionUnitSpec | undefined;
}

export interface EncoderSpec {
  readonly architecture: EncoderArchitecture;
  readonly stem: ConvolutionUnitSpec;
  readonly pool: Window;
  readonly blocks: readonly ResidualBlockSpec[];
  readonly embeddingDim: number;
}

interface Plan {
  readonly block: 'BASIC' | 'BOTTLENECK';
  /** Blocks in each of the four stages. */
  readonly depths: readonly [number, number, number, number];
}

const PLANS: Readonly<Record<EncoderArchitecture, Plan>> = {
  RESNET18: { block: 'BASIC', depths: [2, 2, 2, 2] },
  RESNET34: { block: 'BASIC', depths: [3, 4, 6, 3] },
  RESNET50: { block: 'BOTTLENECK', depths: [3, 4, 6, 3] },
  RESNET101: { block: 'BOTTLENECK', depths: [3, 4, 23, 3] },
};

const STEM_CHANNELS = 64;
const STAGE_WIDTHS = [64, 128, 256, 512] as const;
const EXPANSION = { BASIC: 1, BOTTLENECK: 4 } as const;

/** D, the length of the embedding: 512 for the basic networks, 2048 for the deeper ones. */
export function embeddingDimOf(architecture: EncoderArchitecture): number {
  return STAGE_WIDTHS[3] * EXPANSION[PLANS[architecture].block];
}

/** The whole network, from the stem to the last block, in torchvision's order. */
export function encoderSpec(architecture: EncoderArchitecture): EncoderSpec {
  const { block, depths } = PLANS[architecture];
  const blocks: ResidualBlockSpec[] = [];
  let inputChannels = STEM_CHANNELS;
  STAGE_WIDTHS.forEach((width, stage) => {
    const depth = depths[stage] ?? 0;
    for (let index = 0; index < depth; index += 1) {
      const stride = stage > 0 && index === 0 ? 2 : 1;
      const name = `layer${stage + 1}.${index}`;
      blocks.push(
        block === 'BASIC'
          ? basicBlock(name, inputChannels, width, stride)
          : bottleneckBlock(name, inputChannels, width, stride),
      );
      inputChannels = width * EXPANSION[block];
    }
  });
  const stem: ConvolutionUnitSpec = {
    convolutionName: 'conv1',
    normName: 'bn1',
    inputChannels: 3,
    outputChannels: STEM_CHANNELS,
    window: { size: 7, stride: 2, padding: 3 },
    activation: 'RELU',
  };
  return {
    architecture,
    stem,
    pool: { size: 3, stride: 2, padding: 1 },
    blocks,
    embeddingDim: embeddingDimOf(architecture),
  };
}

function unit(
  block: string,
  index: number,
  channels: readonly [number, number],
  size: 1 | 3,
  stride: number,
  activation: 'NONE' | 'RELU',
): ConvolutionUnitSpec {
  const [inputChannels, outputChannels] = channels;
  const window = { size, stride, padding: (size - 1) / 2 };
  return {
    convolutionName: `${block}.conv${index}`,
    normName: `${block}.bn${index}`,
    inputChannels,
    outputChannels,
    window,
    activation,
  };
}

function shortcut(
  block: string,
  inputChannels: number,
  outputChannels: number,
  stride: number,
): ConvolutionUnitSpec | undefined {
  if (stride === 1 && inputChannels === outputChannels) return undefined;
  const window = { size: 1, stride, padding: 0 };
  return {
    convolutionName: `${block}.downsample.0`,
    normName: `${block}.downsample.1`,
    inputChannels,
    outputChannels,
    window,
    activation: 'NONE',
  };
}

function basicBlock(name: string, inputChannels: number, width: number, stride: number): ResidualBlockSpec {
  return {
    main: [unit(name, 1, [inputChannels, width], 3, stride, 'RELU'), unit(name, 2, [width, width], 3, 1, 'NONE')],
    shortcut: shortcut(name, inputChannels, width, stride),
  };
}

/** torchvision's "v1.5": the stride is on the 3x3 convolution, not on the first 1x1. */
function bottleneckBlock(name: string, inputChannels: number, width: number, stride: number): ResidualBlockSpec {
  const outputChannels = width * EXPANSION.BOTTLENECK;
  return {
    main: [
      unit(name, 1, [inputChannels, width], 1, 1, 'RELU'),
      unit(name, 2, [width, width], 3, stride, 'RELU'),
      unit(name, 3, [width, outputChannels], 1, 1, 'NONE'),
    ],
    shortcut: shortcut(name, inputChannels, outputChannels, stride),
  };
}

/** Every convolution unit, in the order in which torchvision's state dict lists them. */
export function convolutionUnits(spec: EncoderSpec): ConvolutionUnitSpec[] {
  return [
    spec.stem,
    ...spec.blocks.flatMap((block) =>
      block.shortcut === undefined ? [...block.main] : [...block.main, block.shortcut],
    ),
  ];
}

export type EncoderTensorKind =
  'FILTER' | 'NORM_SCALE' | 'NORM_OFFSET' | 'RUNNING_MEAN' | 'RUNNING_VARIANCE' | 'BATCH_COUNT';

export interface EncoderTensorSpec {
  readonly name: string;
  readonly kind: EncoderTensorKind;
  /** torchvision's layout: filters are [O, I, k, k]. */
  readonly shape: readonly number[];
}

/** Every tensor of torchvision's state dict except `fc`. */
export function encoderTensorSpecs(architecture: EncoderArchitecture): EncoderTensorSpec[] {
  return convolutionUnits(encoderSpec(architecture)).flatMap(
    ({ convolutionName, normName, inputChannels, outputChannels, window }): EncoderTensorSpec[] => [
      {
        name: `${convolutionName}.weight`,
        kind: 'FILTER',
        shape: [outputChannels, inputChannels, window.size, window.size],
      },
      { name: `${normName}.weight`, kind: 'NORM_SCALE', shape: [outputChannels] },
      { name: `${normName}.bias`, kind: 'NORM_OFFSET', shape: [outputChannels] },
      { name: `${normName}.running_mean`, kind: 'RUNNING_MEAN', shape: [outputChannels] },
      { name: `${normName}.running_var`, kind: 'RUNNING_VARIANCE', shape: [outputChannels] },
      { name: `${normName}.num_batches_tracked`, kind: 'BATCH_COUNT', shape: [] },
    ],
  );
}
