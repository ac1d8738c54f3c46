/**
 * The residual networks of He et al. 2016 (arXiv:1512.03385) as torchvision builds them, as a list of steps from images
 * to embeddings. Formats with a graph (ONNX, TF.js) write these steps, and they determine which tensors a file of
 * weights must contain.
 */
import { GRAPH_INPUT, GRAPH_OUTPUT, type ConvolutionUnitStep, type GraphStep } from '../graph.ts';
import { RESNET_PLANS, STAGE_WIDTHS, STEM_CHANNELS, type ResnetName, type ResnetPlan } from './specification.ts';

/** The epsilon that torchvision adds to the variance in every batch norm. */
const BATCH_NORM_EPSILON = 1e-5;

const EXPANSION = { BASIC: 1, BOTTLENECK: 4 } as const;

/** The whole network in an order in which it can be computed; within a block, torchvision's order of the tensors. */
export function resnetGraph(architecture: ResnetName): GraphStep[] {
  const { block, depths, widthFactor = 1 } = RESNET_PLANS[architecture];
  const steps: GraphStep[] = [
    {
      kind: 'CONVOLUTION_UNIT',
      input: GRAPH_INPUT,
      output: 'stem',
      convolutionName: 'conv1',
      normName: 'bn1',
      inputChannels: 3,
      outputChannels: STEM_CHANNELS,
      window: { size: 7, stride: 2, padding: 3 },
      hasRelu: true,
      epsilon: BATCH_NORM_EPSILON,
    },
    { kind: 'MAX_POOL', input: 'stem', output: 'maxpool', window: { size: 3, stride: 2, padding: 1 } },
  ];
  let input = 'maxpool';
  let inputChannels = STEM_CHANNELS;
  STAGE_WIDTHS.forEach((width, stage) => {
    for (let index = 0; index < (depths[stage] ?? 0); index += 1) {
      const name = `layer${stage + 1}.${index}`;
      const outputChannels = width * EXPANSION[block];
      steps.push(
        ...residualBlock(block, {
          name,
          input,
          inputChannels,
          width: width * widthFactor,
          outputChannels,
          stride: stage > 0 && index === 0 ? 2 : 1,
        }),
      );
      input = name;
      inputChannels = outputChannels;
    }
  });
  return [...steps, { kind: 'GLOBAL_AVERAGE', input, output: GRAPH_OUTPUT }];
}

interface BlockSpec {
  readonly name: string;
  readonly input: string;
  readonly inputChannels: number;
  /** Channels inside the block. */
  readonly width: number;
  readonly outputChannels: number;
  readonly stride: number;
}

function residualBlock(
  block: ResnetPlan['block'],
  { name, input, inputChannels, width, outputChannels, stride }: BlockSpec,
): GraphStep[] {
  const unit = (
    index: number,
    from: string,
    channels: readonly [number, number],
    size: number,
    unitStride: number,
    hasRelu: boolean,
  ): ConvolutionUnitStep => ({
    kind: 'CONVOLUTION_UNIT',
    input: from,
    output: `${name}.unit${index}`,
    convolutionName: `${name}.conv${index}`,
    normName: `${name}.bn${index}`,
    inputChannels: channels[0],
    outputChannels: channels[1],
    window: { size, stride: unitStride, padding: (size - 1) / 2 },
    hasRelu,
    epsilon: BATCH_NORM_EPSILON,
  });
  const [first, second, third] = [`${name}.unit1`, `${name}.unit2`, `${name}.unit3`] as const;
  const main =
    block === 'BASIC'
      ? [unit(1, input, [inputChannels, width], 3, stride, true), unit(2, first, [width, width], 3, 1, false)]
      : // torchvision's "v1.5": the stride is on the 3x3 convolution, not on the first 1x1.
        [
          unit(1, input, [inputChannels, width], 1, 1, true),
          unit(2, first, [width, width], 3, stride, true),
          unit(3, second, [width, outputChannels], 1, 1, false),
        ];
  const left = block === 'BASIC' ? second : third;
  if (stride === 1 && inputChannels === outputChannels)
    return [...main, { kind: 'ADD_THEN_RELU', left, right: input, output: name }];
  const right = `${name}.downsample`;
  const shortcut: ConvolutionUnitStep = {
    kind: 'CONVOLUTION_UNIT',
    input,
    output: right,
    convolutionName: `${right}.0`,
    normName: `${right}.1`,
    inputChannels,
    outputChannels,
    window: { size: 1, stride, padding: 0 },
    hasRelu: false,
    epsilon: BATCH_NORM_EPSILON,
  };
  return [...main, shortcut, { kind: 'ADD_THEN_RELU', left, right, output: name }];
}

/** Every convolution unit, in the order in which torchvision's state dict lists them. */
export function convolutionUnitSteps(architecture: ResnetName): ConvolutionUnitStep[] {
  return resnetGraph(architecture).filter((step) => step.kind === 'CONVOLUTION_UNIT');
}
