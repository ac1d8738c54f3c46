/** The family of vision transformers. */
import type { EncoderDescription, EncoderFamily, RecognisedNetwork } from '../family.ts';
import { vitGraph } from './graph.ts';
import { joined, nameInFile, networksIn, ownName, recognisedVit, UNUSED } from './names.ts';
import { VIT_PRESET_NAMES, VIT_PRESETS } from './presets.ts';
import {
  vitName,
  vitPoolings,
  vitSpecificationSchema,
  vitTensorSpecs,
  type VitSpecification,
} from './specification.ts';

const FAMILY = 'VIT';

function described(specification: VitSpecification): EncoderDescription {
  const name = vitName(specification);
  const { patchSizePx, width, headCount, normEpsilon, blockNorm, positionResampling } = specification;
  return {
    architecture: { family: FAMILY, specification },
    name,
    fileMetadata: { architecture: name, specification: JSON.stringify(specification) },
    statedFacts: { headCount, normEpsilon, blockNorm, positionResampling },
    tensors: vitTensorSpecs(specification),
    poolings: vitPoolings(specification),
    embeddingDim: (pooling) => (pooling === 'CLS_AND_MEAN' ? 2 * width : width),
    imageSizeFault: (imageSizePx) =>
      imageSizePx % patchSizePx === 0
        ? undefined
        : `Images of ${imageSizePx} px are not a whole number of ${name}'s patches of ${patchSizePx} px.`,
    // Position embeddings belong to one size: another one would check other numbers than those that are used.
    checkSizePx: (imageSizePx) => imageSizePx,
    graph: (weights, use) => vitGraph(specification, weights, use),
  };
}

export const VIT: EncoderFamily = {
  family: FAMILY,
  importable: 'vision transformers with the names of timm, DINO, DINOv2 or Hugging Face (ViT, Dinov2)',
  names: {
    networksIn,
    ownName,
    nameInFile,
    joined,
    unused: UNUSED,
    recognise: (tensors, naming, stated): RecognisedNetwork => {
      const found = recognisedVit(tensors, naming, stated);
      if ('specification' in found) {
        const description = described(found.specification);
        return { description, closest: description, inWords: undefined };
      }
      const unknown = { description: undefined, closest: undefined };
      return 'fault' in found
        ? { ...unknown, inWords: undefined, fault: found.fault }
        : { ...unknown, inWords: found.inWords };
    },
    named: (wanted) => {
      const name = VIT_PRESET_NAMES.find((each) => each === wanted);
      return name === undefined ? undefined : described(VIT_PRESETS[name]);
    },
  },
  describe: (specification) => described(vitSpecificationSchema.parse(specification)),
};
