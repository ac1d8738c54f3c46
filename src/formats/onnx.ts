/**
 * An encoder as an ONNX model: opset 17, IR version 8, which every ONNX Runtime since 1.12 reads.
 *
 * Input `images`: float32 `[batch, 3, height, width]`, already normalised as the input contract says; batch, height and
 * width are free (sides of at least 32 px). Output `embeddings`: float32 `[batch, D]`. Initialisers keep torchvision's
 * names and layouts. See https://onnx.ai/onnx/repo-docs/IR.html.
 */
import { describePreparation, exportMetadata, unitWeights } from './encoder-export.ts';
import type { EncoderExport, UnitWeights } from './encoder-export.ts';
import { ProtobufMessage } from './protobuf-writer.ts';
import { BATCH_NORM_EPSILON, GRAPH_INPUT, GRAPH_OUTPUT, resnetGraph } from './resnet-graph.ts';
import type { ConvolutionUnitStep, GraphStep, GraphWindow } from './resnet-graph.ts';
import { embeddingDimOf } from './torchvision-resnet.ts';

export const ONNX_OPSET = 17;
export const ONNX_IR_VERSION = 8;

/** The field numbers of onnx.proto that are written here. */
const MODEL = { irVersion: 1, producerName: 2, docString: 6, graph: 7, opsetImport: 8, metadata: 14 } as const;
const OPSET = { version: 2 } as const;
const PAIR = { key: 1, value: 2 } as const;
const GRAPH = { node: 1, name: 2, initializer: 5, docString: 10, input: 11, output: 12 } as const;
const NODE = { input: 1, output: 2, name: 3, opType: 4, attribute: 5 } as const;
const ATTRIBUTE = { name: 1, float: 2, int: 3, ints: 8, type: 20 } as const;
const ATTRIBUTE_TYPE = { float: 1, int: 2, ints: 7 } as const;
const TENSOR = { dims: 1, dataType: 2, name: 8, rawData: 9 } as const;
const VALUE_INFO = { name: 1, type: 2, docString: 3 } as const;
const TYPE = { tensor: 1 } as const;
const TENSOR_TYPE = { elementType: 1, shape: 2 } as const;
const SHAPE = { dim: 1 } as const;
const DIM = { value: 1, param: 2 } as const;
const FLOAT = 1;

/**
 * The same export gives the same bytes.
 *
 * @throws WeightsMismatchError when the tensors do not fit the architecture.
 */
export function writeOnnx(source: EncoderExport): Uint8Array<ArrayBuffer> {
  const { architecture, inputContract } = source;
  const units = unitWeights(architecture, source.tensors);
  const preparation = describePreparation(inputContract);
  const graph = new ProtobufMessage()
    .messages(GRAPH.node, resnetGraph(architecture).flatMap(nodesOf))
    .string(GRAPH.name, architecture.toLowerCase())
    .messages(GRAPH.initializer, [...units.values()].flatMap(initialisersOf))
    .message(
      GRAPH.input,
      valueInfo(GRAPH_INPUT, ['batch', 3, 'height', 'width'], `Normalised images, NCHW. ${preparation}`),
    )
    .message(
      GRAPH.output,
      valueInfo(
        GRAPH_OUTPUT,
        ['batch', embeddingDimOf(architecture)],
        `One embedding for each image, from ${inputContract.embeddingLayer}.`,
      ),
    );
  return new ProtobufMessage()
    .natural(MODEL.irVersion, ONNX_IR_VERSION)
    .string(MODEL.producerName, 'paraffin')
    .string(
      MODEL.docString,
      `${architecture} encoder: "${GRAPH_INPUT}" [batch, 3, height, width] to "${GRAPH_OUTPUT}" [batch, ${embeddingDimOf(architecture)}]. ${preparation}`,
    )
    .message(MODEL.graph, graph)
    .message(MODEL.opsetImport, new ProtobufMessage().natural(OPSET.version, ONNX_OPSET))
    .messages(
      MODEL.metadata,
      exportMetadata(source).map(([key, value]) =>
        new ProtobufMessage().string(PAIR.key, key).string(PAIR.value, value),
      ),
    )
    .toBytes();
}

function nodesOf(step: GraphStep): ProtobufMessage[] {
  switch (step.kind) {
    case 'CONVOLUTION_UNIT':
      return convolutionUnit(step);
    case 'MAX_POOL':
      return [node('MaxPool', step.output, [step.input], step.output, windowAttributes(step.window))];
    case 'ADD_THEN_RELU':
      return [
        node('Add', `${step.output}.add`, [step.left, step.right], `${step.output}.sum`),
        node('Relu', `${step.output}.relu`, [`${step.output}.sum`], step.output),
      ];
    case 'GLOBAL_AVERAGE':
      return [
        node('GlobalAveragePool', 'avgpool', [step.input], 'avgpool'),
        node('Flatten', 'flatten', ['avgpool'], step.output, [intAttribute('axis', 1)]),
      ];
  }
}

function convolutionUnit({
  input,
  output,
  convolutionName,
  normName,
  window,
  hasRelu,
}: ConvolutionUnitStep): ProtobufMessage[] {
  const normalised = hasRelu ? normName : output;
  const normInputs = [
    convolutionName,
    `${normName}.weight`,
    `${normName}.bias`,
    `${normName}.running_mean`,
    `${normName}.running_var`,
  ];
  const nodes = [
    node('Conv', convolutionName, [input, `${convolutionName}.weight`], convolutionName, windowAttributes(window)),
    node('BatchNormalization', normName, normInputs, normalised, [floatAttribute('epsilon', BATCH_NORM_EPSILON)]),
  ];
  return hasRelu ? [...nodes, node('Relu', `${normName}.relu`, [normalised], output)] : nodes;
}

function initialisersOf({ step, filter, scale, offset, runningMean, runningVariance }: UnitWeights): ProtobufMessage[] {
  const { convolutionName, normName, inputChannels, outputChannels, window } = step;
  return [
    initialiser(`${convolutionName}.weight`, [outputChannels, inputChannels, window.size, window.size], filter),
    initialiser(`${normName}.weight`, [outputChannels], scale),
    initialiser(`${normName}.bias`, [outputChannels], offset),
    initialiser(`${normName}.running_mean`, [outputChannels], runningMean),
    initialiser(`${normName}.running_var`, [outputChannels], runningVariance),
  ];
}

function initialiser(name: string, shape: readonly number[], data: Float32Array): ProtobufMessage {
  return new ProtobufMessage()
    .naturals(TENSOR.dims, shape)
    .natural(TENSOR.dataType, FLOAT)
    .string(TENSOR.name, name)
    .bytes(TENSOR.rawData, new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
}

function node(
  opType: string,
  name: string,
  inputs: readonly string[],
  output: string,
  attributes: readonly ProtobufMessage[] = [],
): ProtobufMessage {
  return new ProtobufMessage()
    .strings(NODE.input, inputs)
    .string(NODE.output, output)
    .string(NODE.name, name)
    .string(NODE.opType, opType)
    .messages(NODE.attribute, attributes);
}

function windowAttributes({ size, stride, padding }: GraphWindow): ProtobufMessage[] {
  return [
    intsAttribute('kernel_shape', [size, size]),
    intsAttribute('strides', [stride, stride]),
    intsAttribute('pads', [padding, padding, padding, padding]),
  ];
}

function intAttribute(name: string, value: number): ProtobufMessage {
  return new ProtobufMessage()
    .string(ATTRIBUTE.name, name)
    .natural(ATTRIBUTE.int, value)
    .natural(ATTRIBUTE.type, ATTRIBUTE_TYPE.int);
}

function intsAttribute(name: string, values: readonly number[]): ProtobufMessage {
  return new ProtobufMessage()
    .string(ATTRIBUTE.name, name)
    .naturals(ATTRIBUTE.ints, values)
    .natural(ATTRIBUTE.type, ATTRIBUTE_TYPE.ints);
}

function floatAttribute(name: string, value: number): ProtobufMessage {
  return new ProtobufMessage()
    .string(ATTRIBUTE.name, name)
    .float(ATTRIBUTE.float, value)
    .natural(ATTRIBUTE.type, ATTRIBUTE_TYPE.float);
}

function valueInfo(name: string, shape: readonly (number | string)[], docString: string): ProtobufMessage {
  const dims = shape.map((side) =>
    typeof side === 'number'
      ? new ProtobufMessage().natural(DIM.value, side)
      : new ProtobufMessage().string(DIM.param, side),
  );
  const tensorType = new ProtobufMessage()
    .natural(TENSOR_TYPE.elementType, FLOAT)
    .message(TENSOR_TYPE.shape, new ProtobufMessage().messages(SHAPE.dim, dims));
  return new ProtobufMessage()
    .string(VALUE_INFO.name, name)
    .message(VALUE_INFO.type, new ProtobufMessage().message(TYPE.tensor, tensorType))
    .string(VALUE_INFO.docString, docString);
}
