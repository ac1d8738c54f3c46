/**
 * What the registry must know about a family of encoders to import, store and export its weights. The network itself,
 * which computes, is in the engine under the same name.
 */
import type { Architecture, EncoderTensorSpec, Pooling } from './architecture.ts';
import type { EncoderGraph } from './graph.ts';

/** The facts of a tensor by which it is recognised; its values are not read. */
export interface MappableTensor {
  readonly name: string;
  /** The dtype's name in safetensors: F32, BF16, I64 ... */
  readonly dtype: string;
  readonly shape: readonly number[];
}

/** One network of a file. */
export interface NetworkInFile {
  /** The prefix of its names, including the dot. */
  readonly prefix: string;
  /** The family's own word for the scheme by which the file names its tensors. */
  readonly naming: string;
  /** Number of tensors in the file with names of this network, encoder only. */
  readonly tensorCount: number;
  /** True if the names include every stage, so that the network can be imported. */
  readonly isWhole: boolean;
}
export type NetworkPlace = Pick<NetworkInFile, 'prefix' | 'naming'>;

/** Makes one tensor of several, concatenated along the first axis, under the given name of the file. */
export type JoinTensors<T> = (name: string, parts: readonly T[]) => T;

/** What the tensors of a network say about it. */
export interface RecognisedNetwork {
  /** Undefined if they form none that the family can build. */
  readonly description: EncoderDescription | undefined;
  /** The one with the fewest differences; used only to list them. */
  readonly closest: EncoderDescription | undefined;
  /** For an error message: `ResNet-152`. */
  readonly inWords: string | undefined;
  /** What is missing or wrong among the stated facts; for an error message. */
  readonly fault?: string;
}

/** How the files of the field name a family's tensors. */
export interface EncoderNames {
  /** Every network that has at least one of the family's characteristic tensors, the one with the most first. */
  networksIn(tensors: readonly MappableTensor[]): NetworkInFile[];
  /** The state dict's name of a tensor within a network; undefined if the scheme does not contain the name. */
  ownName(nameWithoutPrefix: string, naming: string): string | undefined;
  /** The inverse of `ownName`, with the prefix. */
  nameInFile(ownName: string, network: NetworkPlace): string;
  /** Joins tensors that the file stores apart and the state dict as one. */
  joined?<T extends MappableTensor>(tensors: readonly T[], network: NetworkPlace, join: JoinTensors<T>): readonly T[];
  /** Tensors beside the encoder that no embedding depends on, by their name within the network. */
  readonly unused?: RegExp;
  /**
   * @param tensors of one network, by the state dict's names.
   * @param stated facts of the specification that names and shapes do not tell, if the user gave any.
   */
  recognise(
    tensors: readonly MappableTensor[],
    naming: string,
    stated: Readonly<Record<string, unknown>>,
  ): RecognisedNetwork;
  /** The network that is known by this name; undefined if the family has none. */
  named(name: string): EncoderDescription | undefined;
}

/** How a graph is used, which some networks depend on. */
export interface GraphUse {
  readonly imageSizePx: number;
  readonly pooling: Pooling;
}

/** One network of a family. */
export interface EncoderDescription {
  readonly architecture: Architecture;
  /** RESNET18 */
  readonly name: string;
  /** The facts that a file of weights states about the network. */
  readonly fileMetadata: Readonly<Record<string, string>>;
  /** The facts of the specification that the tensors do not tell; `recognise` takes them as stated. */
  readonly statedFacts: Readonly<Record<string, unknown>>;
  /** The state dict, in its order. */
  readonly tensors: readonly EncoderTensorSpec[];
  /** The poolings that it has; the first is the usual one. */
  readonly poolings: readonly Pooling[];
  /** D, the length of the embedding. */
  embeddingDim(pooling: Pooling): number;
  /** Why images of this side cannot be embedded; undefined if they can. */
  imageSizeFault(imageSizePx: number): string | undefined;
  /** The side, nearest to that of the input contract, at which an export is compared with the engine. */
  checkSizePx(imageSizePx: number): number;
  /** @param weights every tensor of the state dict, checked. */
  graph(weights: ReadonlyMap<string, Float32Array>, use: GraphUse): EncoderGraph;
}

export interface EncoderFamily {
  /** RESNET; the name in `Architecture.family`. */
  readonly family: string;
  /** For error messages: `ResNet-18, 34, 50 and 101 with the names of torchvision`. */
  readonly importable: string;
  readonly names: EncoderNames;
  /** @throws ZodError or RangeError for a specification that is not one of the family's. */
  describe(specification: unknown): EncoderDescription;
}
