/** The family of residual networks, as torchvision builds them. */
import type { EncoderDescription, EncoderFamily, EncoderNames, MappableTensor } from '../family.ts';
import { resnetGraph } from './graph.ts';
import { nameInFile, networksIn, resnetInWords, torchvisionName } from './networks.ts';
import {
  detectArchitecture,
  embeddingDimOf,
  MIN_IMAGE_SIDE_PX,
  resnetArchitecture,
  RESNET_NAMES,
  resnetSpecified,
  resnetTensorSpecs,
  type ResnetName,
} from './specification.ts';

/**
 * An export is checked at a side of at least 64 px: below, the last stage has one pixel surrounded by padding, so that
 * eight of nine weights of its 3x3 filters would not be checked. Larger images than 512 px use no other weights, and
 * take minutes on ONNX Runtime's single thread.
 */
const CHECK_SIZES_PX = { min: 64, max: 512 } as const;

function described(name: ResnetName): EncoderDescription {
  return {
    architecture: resnetArchitecture(name),
    name,
    fileMetadata: { architecture: name },
    statedFacts: {},
    tensors: resnetTensorSpecs(name),
    poolings: ['AVGPOOL'],
    embeddingDim: () => embeddingDimOf(name),
    imageSizeFault: (imageSizePx) =>
      imageSizePx < MIN_IMAGE_SIDE_PX ? `${name} needs images of at least ${MIN_IMAGE_SIDE_PX} px.` : undefined,
    checkSizePx: (imageSizePx) => Math.min(Math.max(imageSizePx, CHECK_SIZES_PX.min), CHECK_SIZES_PX.max),
    graph: () => ({ steps: resnetGraph(name), constants: [], imageSizePx: undefined }),
  };
}

const names: EncoderNames = {
  networksIn,
  ownName: torchvisionName,
  nameInFile,
  recognise: (tensors, _naming, stated) => {
    const name = detectArchitecture(tensors);
    const [surplus] = Object.keys(stated);
    return {
      ...(surplus === undefined
        ? {}
        : { fault: `${surplus} cannot be stated of a ResNet, whose tensors tell everything` }),
      description: name === undefined ? undefined : described(name),
      closest: described(closestArchitecture(tensors)),
      inWords: resnetInWords(tensors),
    };
  },
  named: (wanted) => {
    const name = RESNET_NAMES.find((each) => each === wanted);
    return name === undefined ? undefined : described(name);
  },
};

/** The architecture with the fewest missing and unexpected names. */
function closestArchitecture(tensors: readonly MappableTensor[]): ResnetName {
  const own = new Set(tensors.map(({ name }) => name));
  const distance = (architecture: ResnetName): number => {
    const specs = resnetTensorSpecs(architecture);
    const common = specs.filter(({ name }) => own.has(name)).length;
    return own.size + specs.length - 2 * common;
  };
  return [...RESNET_NAMES].sort((a, b) => distance(a) - distance(b))[0] ?? 'RESNET18';
}

export const RESNET: EncoderFamily = {
  family: 'RESNET',
  importable: 'ResNet-18, 34, 50, 101 and 152 and the wide ResNet-50-2 and 101-2 with the names of torchvision or timm',
  names,
  describe: (specification) => described(resnetSpecified(specification)),
};
