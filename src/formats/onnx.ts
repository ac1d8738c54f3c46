/**
 * An encoder as an ONNX model: opset 17, IR version 8, which every ONNX Runtime since 1.12 reads.
 *
 * Input `images`: float32 `[batch, 3, height, width]`, already normalised as the input contract says; the batch is
 * free, and height and width too unless the network has position embeddings. Output `embeddings`: float32 `[batch, D]`.
 * Initialisers keep the names and layouts of the state dict. See https://onnx.ai/onnx/repo-docs/IR.html.
 */
import { describePreparation, exportGraph, exportMetadata } from './encoder-export.ts';
import type { EncoderExport } from './encoder-export.ts';
import { GRAPH_INPUT, GRAPH_OUTPUT } from './encoders/graph.ts';
import type {
  AttentionStep,
  ConvolutionUnitStep,
  GraphStep,
  GraphWindow,
  LinearStep,
  PatchTokensStep,
  PoolTokensStep,
} from './encoders/graph.ts';
import { ProtobufMessage } from './protobuf-writer.ts';

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
const INT64 = 7;

/**
 * The same export gives the same bytes.
 *
 * @throws WeightsMismatchError when the tensors do not fit the architecture.
 */
export function writeOnnx(source: EncoderExport): Uint8Array<ArrayBuffer> {
  const { inputContract } = source;
  const { name, steps, embeddingDim, imageSizePx, valueOf } = exportGraph(source);
  const preparation = describePreparation(inputContract);
  const [height, width] = imageSizePx === undefined ? ['height', 'width'] : [imageSizePx, imageSizePx];
  const graph = new ProtobufMessage()
    .messages(GRAPH.node, steps.flatMap(nodesOf))
    .string(GRAPH.name, name.toLowerCase())
    .messages(GRAPH.initializer, [
      ...steps.flatMap((step) => tensorNames(step).map((tensor) => initialiser(tensor, valueOf(tensor)))),
      ...steps.flatMap(constantsOf),
    ])
    .message(
      GRAPH.input,
      valueInfo(GRAPH_INPUT, ['batch', 3, height, width], `Normalised images, NCHW. ${preparation}`),
    )
    .message(
      GRAPH.output,
      valueInfo(
        GRAPH_OUTPUT,
        ['batch', embeddingDim],
        `One embedding for each image, from ${inputContract.embeddingLayer}.`,
      ),
    );
  return new ProtobufMessage()
    .natural(MODEL.irVersion, ONNX_IR_VERSION)
    .string(MODEL.producerName, 'paraffin')
    .string(
      MODEL.docString,
      `${name} encoder: "${GRAPH_INPUT}" [batch, 3, ${height}, ${width}] to "${GRAPH_OUTPUT}" [batch, ${embeddingDim}]. ${preparation}`,
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
    case 'ADD':
      return [node('Add', step.output, [step.left, step.right], step.output)];
    case 'SCALE':
      return [node('Mul', step.output, [step.input, step.factor], step.output)];
    case 'PATCH_TOKENS':
      return patchTokens(step);
    case 'LINEAR':
      return [
        node('Gemm', step.output, [step.input, ...linearTensors(step)], step.output, [intAttribute('transB', 1)]),
      ];
    case 'LAYER_NORM':
      return [
        node('LayerNormalization', step.output, [step.input, step.scale, step.offset], step.output, [
          floatAttribute('epsilon', step.epsilon),
        ]),
      ];
    case 'GELU':
      return gelu(step);
    case 'SWIGLU':
      return [
        node(
          'Split',
          `${step.output}/split`,
          [step.input],
          [`${step.output}/gate`, `${step.output}/value`],
          [intAttribute('axis', 1)],
        ),
        node('Sigmoid', `${step.output}/sigmoid`, [`${step.output}/gate`], `${step.output}/sigmoid`),
        node('Mul', `${step.output}/silu`, [`${step.output}/gate`, `${step.output}/sigmoid`], `${step.output}/silu`),
        node('Mul', step.output, [`${step.output}/silu`, `${step.output}/value`], step.output),
      ];
    case 'ATTENTION':
      return attention(step);
    case 'POOL_TOKENS':
      return poolTokens(step);
  }
}

/** Tensors of the state dict and constants of the graph that the step reads. */
function tensorNames(step: GraphStep): string[] {
  switch (step.kind) {
    case 'CONVOLUTION_UNIT':
      return [
        `${step.convolutionName}.weight`,
        ...['weight', 'bias', 'running_mean', 'running_var'].map((part) => `${step.normName}.${part}`),
      ];
    case 'PATCH_TOKENS':
      return [...linearTensors(step), step.offsets];
    case 'LINEAR':
      return linearTensors(step);
    case 'LAYER_NORM':
      return [step.scale, step.offset];
    case 'SCALE':
      return [step.factor];
    case 'MAX_POOL':
    case 'ADD':
    case 'ADD_THEN_RELU':
    case 'GLOBAL_AVERAGE':
    case 'GELU':
    case 'SWIGLU':
    case 'ATTENTION':
    case 'POOL_TOKENS':
      return [];
  }
}

function linearTensors({ weight, bias }: Pick<LinearStep, 'weight' | 'bias'>): string[] {
  return bias === undefined ? [weight] : [weight, bias];
}

/** Shapes, indexes and numbers that the step's own nodes read. */
function constantsOf(step: GraphStep): ProtobufMessage[] {
  const { output } = step;
  switch (step.kind) {
    case 'PATCH_TOKENS':
      return [
        integers(`${output}/flat`, [0, step.width, -1]),
        integers(`${output}/pads`, [0, step.prefixCount, 0, 0, 0, 0]),
        integers(`${output}/rows`, [-1, step.width]),
      ];
    case 'GELU':
      return [number(`${output}/root`, Math.SQRT1_2), number(`${output}/half`, 0.5), number(`${output}/one`, 1)];
    case 'ATTENTION':
      return [
        integers(`${output}/heads`, [-1, step.tokenCount, 3, step.headCount, step.width / step.headCount]),
        ...['query', 'key', 'value'].map((part, index) => index64(`${output}/${part}-index`, index)),
        number(`${output}/factor`, 1 / Math.sqrt(step.width / step.headCount)),
        integers(`${output}/rows`, [-1, step.width]),
      ];
    case 'POOL_TOKENS':
      return [
        integers(`${output}/tokens`, [-1, step.tokenCount, step.width]),
        ...(step.pooling === 'MEAN' ? [] : [index64(`${output}/first`, 0)]),
        ...(step.pooling === 'CLS'
          ? []
          : [
              integers(`${output}/start`, [step.prefixCount]),
              integers(`${output}/end`, [step.tokenCount]),
              integers(`${output}/axis`, [1]),
            ]),
      ];
    case 'CONVOLUTION_UNIT':
    case 'MAX_POOL':
    case 'ADD':
    case 'ADD_THEN_RELU':
    case 'GLOBAL_AVERAGE':
    case 'LINEAR':
    case 'LAYER_NORM':
    case 'SWIGLU':
    case 'SCALE':
      return [];
  }
}

function patchTokens(step: PatchTokensStep): ProtobufMessage[] {
  const { input, output, patchSizePx, offsets } = step;
  const window = { size: patchSizePx, stride: patchSizePx, padding: 0 };
  return [
    node('Conv', `${output}/conv`, [input, ...linearTensors(step)], `${output}/conv`, windowAttributes(window)),
    node('Reshape', `${output}/flatten`, [`${output}/conv`, `${output}/flat`], `${output}/flattened`),
    node('Transpose', `${output}/transpose`, [`${output}/flattened`], `${output}/patches`, [
      intsAttribute('perm', [0, 2, 1]),
    ]),
    node('Pad', `${output}/pad`, [`${output}/patches`, `${output}/pads`], `${output}/padded`),
    node('Add', `${output}/add`, [`${output}/padded`, offsets], `${output}/tokens`),
    node('Reshape', output, [`${output}/tokens`, `${output}/rows`], output),
  ];
}

/** x · (1 + erf(x / sqrt 2)) / 2; the operator Gelu exists from opset 20 only. */
function gelu({ input, output }: { readonly input: string; readonly output: string }): ProtobufMessage[] {
  return [
    node('Mul', `${output}/scale`, [input, `${output}/root`], `${output}/scaled`),
    node('Erf', `${output}/erf`, [`${output}/scaled`], `${output}/erf`),
    node('Add', `${output}/shift`, [`${output}/erf`, `${output}/one`], `${output}/shifted`),
    node('Mul', `${output}/halve`, [`${output}/shifted`, `${output}/half`], `${output}/share`),
    node('Mul', output, [input, `${output}/share`], output),
  ];
}

function attention({ input, output }: AttentionStep): ProtobufMessage[] {
  const part = (name: string): ProtobufMessage =>
    node('Gather', `${output}/${name}`, [`${output}/parts`, `${output}/${name}-index`], `${output}/${name}`, [
      intAttribute('axis', 0),
    ]);
  return [
    node('Reshape', `${output}/reshape`, [input, `${output}/heads`], `${output}/split`),
    node('Transpose', `${output}/transpose`, [`${output}/split`], `${output}/parts`, [
      intsAttribute('perm', [2, 0, 3, 1, 4]),
    ]),
    part('query'),
    part('key'),
    part('value'),
    node('Mul', `${output}/scale`, [`${output}/query`, `${output}/factor`], `${output}/scaled`),
    node('Transpose', `${output}/turn`, [`${output}/key`], `${output}/turned`, [intsAttribute('perm', [0, 1, 3, 2])]),
    node('MatMul', `${output}/products`, [`${output}/scaled`, `${output}/turned`], `${output}/products`),
    node('Softmax', `${output}/softmax`, [`${output}/products`], `${output}/weights`, [intAttribute('axis', 3)]),
    node('MatMul', `${output}/mix`, [`${output}/weights`, `${output}/value`], `${output}/mixed`),
    node('Transpose', `${output}/back`, [`${output}/mixed`], `${output}/joined`, [intsAttribute('perm', [0, 2, 1, 3])]),
    node('Reshape', output, [`${output}/joined`, `${output}/rows`], output),
  ];
}

function poolTokens({ input, output, pooling }: PoolTokensStep): ProtobufMessage[] {
  const tokens = node('Reshape', `${output}/reshape`, [input, `${output}/tokens`], `${output}/images`);
  const first = (to: string): ProtobufMessage =>
    node('Gather', `${output}/cls`, [`${output}/images`, `${output}/first`], to, [intAttribute('axis', 1)]);
  const mean = (to: string): ProtobufMessage[] => [
    node(
      'Slice',
      `${output}/slice`,
      [`${output}/images`, `${output}/start`, `${output}/end`, `${output}/axis`],
      `${output}/patches`,
    ),
    node('ReduceMean', `${output}/mean`, [`${output}/patches`], to, [
      intsAttribute('axes', [1]),
      intAttribute('keepdims', 0),
    ]),
  ];
  switch (pooling) {
    case 'CLS':
      return [tokens, first(output)];
    case 'MEAN':
      return [tokens, ...mean(output)];
    case 'CLS_AND_MEAN':
      return [
        tokens,
        first(`${output}/class`),
        ...mean(`${output}/average`),
        node('Concat', output, [`${output}/class`, `${output}/average`], output, [intAttribute('axis', 1)]),
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
  epsilon,
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
    node('BatchNormalization', normName, normInputs, normalised, [floatAttribute('epsilon', epsilon)]),
  ];
  return hasRelu ? [...nodes, node('Relu', `${normName}.relu`, [normalised], output)] : nodes;
}

function initialiser(
  name: string,
  { shape, data }: { readonly shape: readonly number[]; readonly data: Float32Array },
): ProtobufMessage {
  return new ProtobufMessage()
    .naturals(TENSOR.dims, shape)
    .natural(TENSOR.dataType, FLOAT)
    .string(TENSOR.name, name)
    .bytes(TENSOR.rawData, new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
}

/** A scalar. */
function number(name: string, value: number): ProtobufMessage {
  return initialiser(name, { shape: [], data: Float32Array.of(value) });
}

function integers(
  name: string,
  values: readonly number[],
  shape: readonly number[] = [values.length],
): ProtobufMessage {
  const data = BigInt64Array.from(values, BigInt);
  return new ProtobufMessage()
    .naturals(TENSOR.dims, shape)
    .natural(TENSOR.dataType, INT64)
    .string(TENSOR.name, name)
    .bytes(TENSOR.rawData, new Uint8Array(data.buffer));
}

/** A scalar index, with which Gather drops the axis. */
function index64(name: string, value: number): ProtobufMessage {
  return integers(name, [value], []);
}

function node(
  opType: string,
  name: string,
  inputs: readonly string[],
  outputs: string | readonly string[],
  attributes: readonly ProtobufMessage[] = [],
): ProtobufMessage {
  return new ProtobufMessage()
    .strings(NODE.input, inputs)
    .strings(NODE.output, typeof outputs === 'string' ? [outputs] : outputs)
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
