/**
 * Finds an encoder in the tensors of a checkpoint, with any prefix, and accounts for every tensor. Elsewhere, loading
 * by name with a wrong prefix loads nothing and looks like success; here it is refused with a list of missing,
 * unexpected and mismatched tensors.
 */
import type { EncoderTensorSpec } from './architecture.ts';
import type {
  EncoderDescription,
  EncoderFamily,
  JoinTensors,
  MappableTensor,
  NetworkInFile,
  NetworkPlace,
} from './family.ts';
import { ENCODER_FAMILIES } from './registry.ts';

export type { MappableTensor } from './family.ts';

export interface MappingExpectation {
  /** The stated network by its name, as RESNET50; detected if absent. */
  readonly encoder?: string;
  /** The stated prefix, including its dot; detected if absent. */
  readonly prefix?: string;
  /** Facts of the specification that tensors do not tell, such as the number of attention heads. */
  readonly specification?: Readonly<Record<string, unknown>>;
}

/** SimCLR's two linear layers, under `fc.1` and `fc.3` (Ciga et al. 2022). */
export interface FoundProjectionHead<T> {
  readonly hiddenDim: number;
  readonly projectionDim: number;
  /** By `fc.1.weight`, `fc.1.bias`, `fc.3.weight`, `fc.3.bias`; a bias may be absent. */
  readonly tensors: ReadonlyMap<string, T>;
}

/** A last linear layer `fc`, which the encoder does not use. */
export interface FoundClassifier<T> {
  readonly classCount: number;
  /** By `fc.weight` and `fc.bias`; the bias may be absent. */
  readonly tensors: ReadonlyMap<string, T>;
}

/** A part of the file that is not the encoder: another network, a head, a queue, the buffers of a metric. */
export interface IgnoredTensors {
  /** e.g. `module.encoder_k` */
  readonly path: string;
  readonly tensorCount: number;
}

export interface MappedEncoder<T> {
  readonly outcome: 'MAPPED';
  readonly description: EncoderDescription;
  /** `model.resnet.`, or empty if the names have none. */
  readonly prefix: string;
  /** Keyed by the state dict's names, in its order. */
  readonly tensors: ReadonlyMap<string, T>;
  /** Batch counts that the file lacks, which then are 0: files from before PyTorch 0.4.1 have none. */
  readonly absentBatchCounts: readonly string[];
  readonly projectionHead: FoundProjectionHead<T> | undefined;
  readonly classifier: FoundClassifier<T> | undefined;
  /** All other tensors, by part: those outside the prefix, and heads and buffers beside the encoder. */
  readonly ignored: readonly IgnoredTensors[];
}

/**
 * NO_ENCODER: no name is one of a known family. PREFIX_UNKNOWN: the names begin with words that are not among the
 * known ones; state the prefix if it is meant. PREFIX_AMBIGUOUS: several networks. ARCHITECTURE_DIFFERS: a whole
 * encoder, but not the stated one. SPECIFICATION_INVALID: what was stated beside the tensors is missing or wrong; see
 * `fault`.
 * MISMATCH: see the lists.
 */
export type MappingRefusal =
  'NO_ENCODER' | 'PREFIX_UNKNOWN' | 'PREFIX_AMBIGUOUS' | 'ARCHITECTURE_DIFFERS' | 'SPECIFICATION_INVALID' | 'MISMATCH';

export interface RefusedMapping {
  readonly outcome: 'REFUSED';
  readonly reason: MappingRefusal;
  /** The network that the tensors were compared with: the stated, the detected, or the closest one. */
  readonly encoder: string | undefined;
  /** The network detected from the tensors, if it is a known one. */
  readonly detectedEncoder: string | undefined;
  /** Tensors of the network that they were compared with. */
  readonly expectedTensorCount: number;
  /** What is wrong with the stated facts, or which one is missing. */
  readonly fault: string | undefined;
  /** A description of the network from its names and shapes: `ResNet-152`. */
  readonly network: string | undefined;
  /** Candidates, the one with the most names first. */
  readonly prefixes: readonly { readonly prefix: string; readonly tensorCount: number }[];
  /** Names in the file's form, including the prefix. */
  readonly missing: readonly string[];
  readonly unexpected: readonly string[];
  /** `model.conv1.weight: expected floating point [64, 3, 7, 7], got F32 [64, 3, 3, 3]` */
  readonly mismatched: readonly string[];
}

export type MappingResult<T> = MappedEncoder<T> | RefusedMapping;

/**
 * Words that wrappers put before an encoder's names: DataParallel, torch.compile, Lightning modules, MoCo's query
 * encoder, VISSL's trunk. Prefixes of a second, averaged network are left out, because the user must choose that one
 * explicitly.
 */
const PREFIX_WORDS: ReadonlySet<string> = new Set([
  '_feature_blocks',
  '_orig_mod',
  'backbone',
  'base_encoder',
  'base_model',
  'classy_state_dict',
  'dinov2',
  'encoder',
  'encoder_q',
  'feature_extractor',
  'features',
  'model',
  'model_state_dict',
  'module',
  'net',
  'network',
  'resnet',
  'state_dict',
  'teacher',
  'trunk',
  'vit',
]);
/**
 * Of two networks that one training saves, the one that its authors evaluate: the query encoder of MoCo
 * (main_lincls.py), the base encoder of MoCo v3 (main_lincls.py), the teacher of DINO and iBOT (eval_linear.py,
 * `--checkpoint_key teacher`).
 */
const EVALUATED: readonly (readonly [evaluated: string, other: string])[] = [
  ['encoder_q', 'encoder_k'],
  ['base_encoder', 'momentum_encoder'],
  ['teacher', 'student'],
];
const FLOATING: ReadonlySet<string> = new Set(['F64', 'F32', 'F16', 'BF16']);
/** A batch count is a whole number; `.half()` and `.float()` of a state dict leave it in another type. */
const COUNTING: ReadonlySet<string> = new Set([...FLOATING, 'I64', 'I32', 'I16', 'I8', 'U8']);
const HEAD_NAMES: ReadonlySet<string> = new Set(['fc.1.weight', 'fc.1.bias', 'fc.3.weight', 'fc.3.bias']);
const CLASSIFIER_NAMES: ReadonlySet<string> = new Set(['fc.weight', 'fc.bias']);
/** Modules that take the embedding, beside the encoder and under its prefix. */
const HEAD_MODULES: ReadonlySet<string> = new Set([
  'classifier',
  'contrast_head',
  'fc',
  'head',
  'heads',
  'last_linear',
  'linear',
  'mlp',
  'pooler',
  'predictor',
  'proj',
  'projection',
  'projection_head',
  'projector',
  'prototypes',
]);
/** Buffers beside the encoder that do not affect the embedding, or that the input contract already states. */
const BUFFERS =
  /^(?:queue\w*|(?:pixel_|image_|img_)?(?:mean|std)|(?:normali[sz]e|normali[sz]er|preprocess|criterion|loss|loss_fn|\w*metrics?|\w*acc(?:uracy)?|(?:train|val|valid|test)_\w+)\..+)$/i;

/**
 * Accounts for every tensor of the chosen network's prefix: the encoder's, those of a head or of known buffers, and
 * nothing else. What lies outside the prefix is listed as ignored. One prefix holds for the whole encoder.
 */
export function mapToEncoder<T extends MappableTensor>(
  given: readonly T[],
  expectation: MappingExpectation = {},
  join: JoinTensors<T> = cannotJoin,
): MappingResult<T> {
  const { encoder: statedName } = expectation;
  const isStated = ({ names }: EncoderFamily): boolean =>
    statedName === undefined || names.named(statedName) !== undefined;
  const ofAllFamilies = ENCODER_FAMILIES.flatMap((family) =>
    family.names.networksIn(given).map((network): FamilyNetwork => ({ ...network, family })),
  ).sort((a, b) => b.tensorCount - a.tensorCount);
  const ofStatedFamily = ofAllFamilies.filter(({ family }) => isStated(family));
  const networks = ofStatedFamily.length > 0 ? ofStatedFamily : ofAllFamilies;
  const unmapped = {
    outcome: 'REFUSED',
    encoder: statedName,
    detectedEncoder: undefined,
    expectedTensorCount: 0,
    fault: undefined,
    network: undefined,
    prefixes: networks.map(({ prefix, tensorCount }) => ({ prefix, tensorCount })),
    missing: [],
    unexpected: [],
    mismatched: [],
  } as const;
  const [largest] = networks;
  if (largest === undefined) return { ...unmapped, reason: 'NO_ENCODER', unexpected: given.map(({ name }) => name) };
  const chosen = chosenNetwork(networks, largest, expectation.prefix);
  if (typeof chosen === 'string') return { ...unmapped, reason: chosen };
  const { names } = chosen.family;
  const tensors = names.joined?.(given, chosen, join) ?? given;
  const inner = tensors.flatMap(({ name, dtype, shape }) => {
    const own = ownName(name, chosen);
    return own === undefined ? [] : [{ name: own, dtype, shape }];
  });
  const recognised = names.recognise(inner, chosen.naming, expectation.specification ?? {});
  const stated = statedName === undefined ? undefined : names.named(statedName);
  const description = stated ?? recognised.description ?? recognised.closest;
  const found = {
    ...unmapped,
    encoder: description?.name,
    detectedEncoder: recognised.description?.name,
    expectedTensorCount: description?.tensors.length ?? 0,
    network: recognised.inWords,
  };
  if (!isStated(chosen.family)) return { ...found, encoder: statedName, reason: 'ARCHITECTURE_DIFFERS' };
  if (recognised.fault !== undefined) return { ...found, reason: 'SPECIFICATION_INVALID', fault: recognised.fault };
  if (description === undefined)
    return { ...found, reason: 'MISMATCH', unexpected: inner.map(({ name }) => names.nameInFile(name, chosen)) };
  const sorted = sortTensors(tensors, chosen, description);
  const { missing, unexpected, mismatched } = sorted;
  if (missing.length + unexpected.length + mismatched.length > 0) {
    const differs =
      stated !== undefined && recognised.description !== undefined && recognised.description.name !== stated.name;
    return { ...found, reason: differs ? 'ARCHITECTURE_DIFFERS' : 'MISMATCH', missing, unexpected, mismatched };
  }
  const { encoder, absentBatchCounts, head, classifier, ignored } = sorted;
  return {
    outcome: 'MAPPED',
    description,
    prefix: chosen.prefix,
    tensors: encoder,
    absentBatchCounts,
    projectionHead:
      head.size === 0
        ? undefined
        : { hiddenDim: sizeOf(head, 'fc.1.weight'), projectionDim: sizeOf(head, 'fc.3.weight'), tensors: head },
    classifier:
      classifier.size === 0 ? undefined : { classCount: sizeOf(classifier, 'fc.weight'), tensors: classifier },
    ignored: [...ignored].map(([path, tensorCount]) => ({ path, tensorCount })),
  };
}

interface FamilyNetwork extends NetworkInFile {
  readonly family: EncoderFamily;
}

function cannotJoin(name: string): never {
  throw new Error(`${name} is stored in parts, and this caller does not join tensors.`);
}

/**
 * The stated network, the only complete one, or of two the one that the training's authors evaluate. Otherwise the user
 * must choose, because an average and its original give different embeddings.
 */
function chosenNetwork(
  networks: readonly FamilyNetwork[],
  largest: FamilyNetwork,
  stated: string | undefined,
): (NetworkPlace & Pick<FamilyNetwork, 'family'>) | Extract<MappingRefusal, 'PREFIX_AMBIGUOUS' | 'PREFIX_UNKNOWN'> {
  if (stated !== undefined) return networks.find(({ prefix }) => prefix === stated) ?? { ...largest, prefix: stated };
  const whole = networks.filter(({ isWhole }) => isWhole);
  const candidates = whole.length > 0 ? whole : networks;
  const evaluated = evaluatedNetwork(candidates);
  const [first, second] = evaluated === undefined ? candidates : [evaluated];
  if (first === undefined) return 'PREFIX_UNKNOWN';
  if (second !== undefined) return 'PREFIX_AMBIGUOUS';
  const words = first.prefix.split('.').slice(0, -1);
  return words.every((word) => PREFIX_WORDS.has(word)) ? first : 'PREFIX_UNKNOWN';
}

function evaluatedNetwork(networks: readonly FamilyNetwork[]): FamilyNetwork | undefined {
  const has = ({ prefix }: FamilyNetwork, word: string): boolean => prefix.split('.').includes(word);
  for (const [evaluated, other] of EVALUATED) {
    const [found, second] = networks.filter((network) => has(network, evaluated));
    if (found === undefined || second !== undefined) continue;
    if (networks.every((network) => network === found || has(network, other))) return found;
  }
  return undefined;
}

/** A name of the file as the state dict has it within the network; undefined outside of it. */
function ownName(
  name: string,
  { prefix, naming, family }: NetworkPlace & Pick<FamilyNetwork, 'family'>,
): string | undefined {
  return name.startsWith(prefix) ? family.names.ownName(name.slice(prefix.length), naming) : undefined;
}

interface SortedTensors<T> {
  readonly encoder: Map<string, T>;
  readonly head: Map<string, T>;
  readonly classifier: Map<string, T>;
  readonly ignored: Map<string, number>;
  readonly absentBatchCounts: string[];
  readonly missing: string[];
  readonly unexpected: string[];
  readonly mismatched: string[];
}

function sortTensors<T extends MappableTensor>(
  tensors: readonly T[],
  network: NetworkPlace & Pick<FamilyNetwork, 'family'>,
  description: EncoderDescription,
): SortedTensors<T> {
  const { names } = network.family;
  const specs = description.tensors;
  const embeddingDims = description.poolings.map((pooling) => description.embeddingDim(pooling));
  const wanted = new Map(specs.map((spec) => [spec.name, spec]));
  const sorted: SortedTensors<T> = {
    encoder: new Map(),
    head: new Map(),
    classifier: new Map(),
    ignored: new Map(),
    absentBatchCounts: [],
    missing: [],
    unexpected: [],
    mismatched: [],
  };
  const found = new Map<string, T>();
  const heads = new Map<string, T>();
  const others: T[] = [];
  for (const tensor of tensors) {
    const own = ownName(tensor.name, network);
    const spec = own === undefined ? undefined : wanted.get(own);
    if (spec !== undefined && !found.has(spec.name)) {
      found.set(spec.name, tensor);
      if (!fits(tensor, spec)) sorted.mismatched.push(expected(tensor, wantedOf(spec)));
    } else if (!tensor.name.startsWith(network.prefix)) others.push(tensor);
    else if (own !== undefined && HEAD_MODULES.has(own.split('.', 1)[0] ?? '') && !heads.has(own))
      heads.set(own, tensor);
    else if (own !== undefined && (BUFFERS.test(own) || names.unused?.test(own) === true))
      ignore(sorted, tensor.name, network.prefix);
    else sorted.unexpected.push(tensor.name);
  }
  for (const spec of specs) {
    const tensor = found.get(spec.name);
    if (tensor !== undefined) sorted.encoder.set(spec.name, tensor);
    else if (spec.required) sorted.missing.push(names.nameInFile(spec.name, network));
    else sorted.absentBatchCounts.push(spec.name);
  }
  sortHeads(heads, embeddingDims, sorted, network.prefix);
  sortOthers(others, network.prefix, embeddingDims, sorted);
  return sorted;
}

/**
 * Heads beside the encoder. SimCLR's and a classifier are recognised by their names and must be whole; any other head
 * must accept the embedding: a head of another width shows that the network's embedding is not the encoder's.
 */
function sortHeads<T extends MappableTensor>(
  heads: ReadonlyMap<string, T>,
  embeddingDims: readonly number[],
  sorted: SortedTensors<T>,
  prefix: string,
): void {
  if (heads.size === 0) return;
  const known = recognisedHead(heads);
  if (known !== undefined) {
    sorted.mismatched.push(...layerShapeFaults(heads, known.layers, embeddingDims));
    for (const [name, tensor] of heads) sorted[known.place].set(name, tensor);
    return;
  }
  const linear = [...heads.values()].filter(({ shape }) => shape.length >= 2);
  if (linear.length === 0) sorted.unexpected.push(...[...heads.values()].map(({ name }) => name));
  else if (linear.some(({ shape }) => embeddingDims.some((embeddingDim) => shape[1] === embeddingDim)))
    for (const { name } of heads.values()) ignore(sorted, name, prefix);
  else
    sorted.mismatched.push(
      ...linear.slice(0, 1).map((tensor) => expected(tensor, `floating point [any, ${embeddingDims.join(' or ')}]`)),
    );
}

interface RecognisedHead {
  readonly place: 'head' | 'classifier';
  readonly layers: readonly string[];
}

function recognisedHead(heads: ReadonlyMap<string, MappableTensor>): RecognisedHead | undefined {
  const names = [...heads.keys()];
  if (names.every((name) => HEAD_NAMES.has(name)) && heads.has('fc.1.weight') && heads.has('fc.3.weight'))
    return { place: 'head', layers: ['fc.1', 'fc.3'] };
  if (names.every((name) => CLASSIFIER_NAMES.has(name)) && heads.has('fc.weight'))
    return { place: 'classifier', layers: ['fc'] };
  return undefined;
}

/**
 * Tensors outside the network's prefix are ignored and listed; a head or classifier of a known form at an outer level,
 * as `fc.weight` beside `encoder.conv1.weight`, is recognised as one.
 */
function sortOthers<T extends MappableTensor>(
  others: readonly T[],
  prefix: string,
  embeddingDims: readonly number[],
  sorted: SortedTensors<T>,
): void {
  const recognised = new Set<T>();
  for (const level of outerLevels(prefix)) {
    if (sorted.head.size + sorted.classifier.size > 0) break;
    const heads = new Map(
      others.flatMap((tensor) =>
        tensor.name.startsWith(`${level}fc.`) ? [[tensor.name.slice(level.length), tensor] as const] : [],
      ),
    );
    const known = recognisedHead(heads);
    if (known === undefined || layerShapeFaults(heads, known.layers, embeddingDims).length > 0) continue;
    for (const [name, tensor] of heads) {
      sorted[known.place].set(name, tensor);
      recognised.add(tensor);
    }
  }
  for (const tensor of others) if (!recognised.has(tensor)) ignore(sorted, tensor.name, prefix);
}

/** Counts the tensor for its part of the file: the words that it shares with the prefix, plus one. */
function ignore<T>({ ignored }: SortedTensors<T>, name: string, prefix: string): void {
  const words = name.split('.');
  const own = prefix.split('.').slice(0, -1);
  let shared = 0;
  while (shared < own.length && words[shared] === own[shared]) shared += 1;
  const part = words.slice(0, shared + 1).join('.');
  ignored.set(part, (ignored.get(part) ?? 0) + 1);
}

/** `model.` and the empty one, for `model.resnet.` */
function outerLevels(prefix: string): string[] {
  const words = prefix.split('.').slice(0, -1);
  return words.map((_word, index) => {
    const outer = words.slice(0, words.length - 1 - index);
    return outer.length === 0 ? '' : `${outer.join('.')}.`;
  });
}

function fits({ dtype, shape }: MappableTensor, spec: EncoderTensorSpec): boolean {
  if (spec.kind === 'BATCH_COUNT')
    return COUNTING.has(dtype) && (shape.length === 0 || (shape.length === 1 && shape[0] === 1));
  return (
    shape.length === spec.shape.length && shape.every((size, axis) => size === spec.shape[axis]) && FLOATING.has(dtype)
  );
}

function wantedOf({ kind, shape }: EncoderTensorSpec): string {
  return kind === 'BATCH_COUNT' ? 'one whole number []' : `floating point [${shape.join(', ')}]`;
}

/**
 * The faults in the shapes of a head's linear layers. Each layer must accept the output of the one before, and the
 * first one the embedding; weights are [out, in].
 */
function layerShapeFaults<T extends MappableTensor>(
  found: ReadonlyMap<string, T>,
  layers: readonly string[],
  embeddingDims: readonly number[],
): string[] {
  const faults: string[] = [];
  let inputDims = embeddingDims;
  for (const layer of layers) {
    const weight = found.get(`${layer}.weight`);
    const bias = found.get(`${layer}.bias`);
    const outputDim = weight?.shape[0] ?? 0;
    const isRightWeight =
      weight !== undefined &&
      weight.shape.length === 2 &&
      inputDims.some((inputDim) => weight.shape[1] === inputDim) &&
      outputDim > 0 &&
      FLOATING.has(weight.dtype);
    if (weight !== undefined && !isRightWeight)
      faults.push(expected(weight, `floating point [any, ${inputDims.join(' or ')}]`));
    const isRightBias =
      bias === undefined || (bias.shape.length === 1 && bias.shape[0] === outputDim && FLOATING.has(bias.dtype));
    if (!isRightBias) faults.push(expected(bias, `floating point [${outputDim}]`));
    inputDims = [outputDim];
  }
  return faults;
}

function sizeOf<T extends MappableTensor>(tensors: ReadonlyMap<string, T>, name: string): number {
  return tensors.get(name)?.shape[0] ?? 0;
}

function expected({ name, dtype, shape }: MappableTensor, wanted: string): string {
  return `${name}: expected ${wanted}, got ${dtype} [${shape.join(', ')}]`;
}
