/**
 * The residual networks of He et al. 2016 (arXiv:1512.03385) as torchvision builds them, described as data: the
 * convolutions, and the names and shapes of their weights.
 */
import {
  embeddingDimOf,
  RESNET_PLANS,
  STAGE_WIDTHS,
  STEM_CHANNELS,
  type ResnetName,
} from '../../../../src/formats/encoders/resnet/specification.ts';
import type { Window } from '../../kernels/padding.ts';

export { embeddingDimOf };
export type EncoderArchitecture = ResnetName;

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

const EXPANSION = { BASIC: 1, BOTTLENECK: 4 } as const;

/** The whole network, from the stem to the last block, in torchvision's order. */
export function encoderSpec(architecture: EncoderArchitecture): EncoderSpec {
  const { block, depths, widthFactor = 1 } = RESNET_PLANS[architecture];
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
          : bottleneckBlock(name, [inputChannels, width * widthFactor, width * EXPANSION.BOTTLENECK], stride),
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
function bottleneckBlock(
  name: string,
  [inputChannels, width, outputChannels]: readonly [input: number, inner: number, output: number],
  stride: number,
): ResidualBlockSpec {
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
