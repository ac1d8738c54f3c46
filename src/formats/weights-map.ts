/**
 * Finds an encoder in the tensors of a checkpoint, whatever its names begin with, and accounts for every tensor.
 * Loading by name with a wrong prefix loads nothing and looks like success: here it is a refusal that lists what is
 * missing, unexpected and misshapen.
 */
import { detectArchitecture, embeddingDimOf, RESNET_ARCHITECTURES, resnetTensorSpecs } from './torchvision-resnet.ts';
import type { ResnetArchitecture, ResnetTensorSpec } from './torchvision-resnet.ts';

/** What is asked of a tensor; its numbers are not looked at. */
export interface MappableTensor {
  readonly name: string;
  /** As safetensors names it: F32, BF16, I64 ... */
  readonly dtype: string;
  readonly shape: readonly number[];
}

export interface MappingExpectation {
  /** What the file is said to hold; otherwise it is detected. */
  readonly architecture?: ResnetArchitecture;
  /** What the names begin with, its dot included; otherwise it is detected. */
  readonly prefix?: string;
}

/** SimCLR's two linear layers, under `fc.1` and `fc.3` (Ciga et al. 2022). */
export interface FoundProjectionHead<T> {
  readonly hiddenDim: number;
  readonly projectionDim: number;
  /** By `fc.1.weight`, `fc.1.bias`, `fc.3.weight`, `fc.3.bias`; a bias may be absent. */
  readonly tensors: ReadonlyMap<string, T>;
}

/** A last linear layer `fc`, which the encoder has no use for. */
export interface FoundClassifier<T> {
  readonly classCount: number;
  /** By `fc.weight` and `fc.bias`; the bias may be absent. */
  readonly tensors: ReadonlyMap<string, T>;
}

export interface MappedEncoder<T> {
  readonly outcome: 'MAPPED';
  readonly architecture: ResnetArchitecture;
  /** `model.resnet.`, or empty where the names are torchvision's own. */
  readonly prefix: string;
  /** By torchvision's names, in torchvision's order. */
  readonly tensors: ReadonlyMap<string, T>;
  /** Batch counts that the file does not have: files from before PyTorch 0.4.1 have none, and they count as 0. */
  readonly absentBatchCounts: readonly string[];
  readonly projectionHead: FoundProjectionHead<T> | undefined;
  readonly classifier: FoundClassifier<T> | undefined;
}

/**
 * NO_ENCODER: no name ends in one of a ResNet's. PREFIX_UNKNOWN: the names begin with words that are none of the known
 * ones; state the prefix if it is meant. PREFIX_AMBIGUOUS: several networks, none of them with most of the names.
 * ARCHITECTURE_DIFFERS: a whole encoder, but not the stated one. MISMATCH: see the lists.
 */
export type MappingRefusal = 'NO_ENCODER' | 'PREFIX_UNKNOWN' | 'PREFIX_AMBIGUOUS' | 'ARCHITECTURE_DIFFERS' | 'MISMATCH';

export interface RefusedMapping {
  readonly outcome: 'REFUSED';
  readonly reason: MappingRefusal;
  /** What the tensors were held against: the stated architecture, the detected one, or the closest. */
  readonly architecture: ResnetArchitecture | undefined;
  /** What the file holds by its names, when that is one of the known networks. */
  readonly detectedArchitecture: ResnetArchitecture | undefined;
  /** Candidates, the one with the most names first. */
  readonly prefixes: readonly { readonly prefix: string; readonly tensorCount: number }[];
  /** Names as the file would have them, prefix included. */
  readonly missing: readonly string[];
  readonly unexpected: readonly string[];
  /** `model.conv1.weight: expected floating point [64, 3, 7, 7], got F32 [64, 3, 3, 3]` */
  readonly misshapen: readonly string[];
}

export type MappingResult<T> = MappedEncoder<T> | RefusedMapping;

/** Words that wrappers put before an encoder's names: DataParallel, Lightning modules, self-supervision libraries. */
const PREFIX_WORDS: ReadonlySet<string> = new Set([
  'model',
  'resnet',
  'module',
  'encoder',
  'backbone',
  'net',
  'network',
  'base_model',
  'feature_extractor',
]);
const FLOATING: ReadonlySet<string> = new Set(['F64', 'F32', 'F16', 'BF16']);
const HEAD_NAMES: ReadonlySet<string> = new Set(['fc.1.weight', 'fc.1.bias', 'fc.3.weight', 'fc.3.bias']);
const CLASSIFIER_NAMES: ReadonlySet<string> = new Set(['fc.weight', 'fc.bias']);
const ENCODER_NAMES: ReadonlySet<string> = new Set(
  RESNET_ARCHITECTURES.flatMap((architecture) => resnetTensorSpecs(architecture).map(({ name }) => name)),
);

/**
 * Accounts for every tensor: the encoder's, those of a projection head or classifier (which may also stand at an outer
 * level, as `fc.weight` beside `encoder.conv1.weight`), and nothing else. One prefix holds for the whole encoder.
 */
export function mapToEncoder<T extends MappableTensor>(
  tensors: readonly T[],
  expectation: MappingExpectation = {},
): MappingResult<T> {
  const prefixes = prefixesOf(tensors);
  const unmapped = {
    outcome: 'REFUSED',
    architecture: expectation.architecture,
    detectedArchitecture: undefined,
    prefixes,
    missing: [],
    unexpected: [],
    misshapen: [],
  } as const;
  const [first, second] = prefixes;
  if (first === undefined) return { ...unmapped, reason: 'NO_ENCODER', unexpected: tensors.map(({ name }) => name) };
  if (expectation.prefix === undefined) {
    const others = prefixes.slice(1).reduce((sum, { tensorCount }) => sum + tensorCount, 0);
    if (second !== undefined && first.tensorCount <= others) return { ...unmapped, reason: 'PREFIX_AMBIGUOUS' };
    if (
      !first.prefix
        .split('.')
        .slice(0, -1)
        .every((word) => PREFIX_WORDS.has(word))
    )
      return { ...unmapped, reason: 'PREFIX_UNKNOWN' };
  }
  const prefix = expectation.prefix ?? first.prefix;
  const inner = tensors
    .filter(({ name }) => name.startsWith(prefix))
    .map(({ name }) => ({ name: name.slice(prefix.length) }));
  const detectedArchitecture = detectArchitecture(inner);
  const architecture = expectation.architecture ?? detectedArchitecture ?? closestArchitecture(inner);
  const sorted = sortTensors(tensors, prefix, architecture);
  const { missing, unexpected, misshapen } = sorted;
  if (missing.length + unexpected.length + misshapen.length > 0) {
    const differs =
      expectation.architecture !== undefined &&
      detectedArchitecture !== undefined &&
      detectedArchitecture !== expectation.architecture;
    return {
      outcome: 'REFUSED',
      reason: differs ? 'ARCHITECTURE_DIFFERS' : 'MISMATCH',
      architecture,
      detectedArchitecture,
      prefixes,
      missing,
      unexpected,
      misshapen,
    };
  }
  const { encoder, absentBatchCounts, head, classifier } = sorted;
  return {
    outcome: 'MAPPED',
    architecture,
    prefix,
    tensors: encoder,
    absentBatchCounts,
    projectionHead:
      head.size === 0
        ? undefined
        : { hiddenDim: sizeOf(head, 'fc.1.weight'), projectionDim: sizeOf(head, 'fc.3.weight'), tensors: head },
    classifier:
      classifier.size === 0 ? undefined : { classCount: sizeOf(classifier, 'fc.weight'), tensors: classifier },
  };
}

/** What comes before the longest ending that is an encoder's tensor, counted. */
function prefixesOf(tensors: readonly MappableTensor[]): { prefix: string; tensorCount: number }[] {
  const counts = new Map<string, number>();
  for (const { name } of tensors) {
    for (let start = 0; ;) {
      if (ENCODER_NAMES.has(name.slice(start))) {
        const prefix = name.slice(0, start);
        counts.set(prefix, (counts.get(prefix) ?? 0) + 1);
        break;
      }
      const dot = name.indexOf('.', start);
      if (dot < 0) break;
      start = dot + 1;
    }
  }
  return [...counts]
    .map(([prefix, tensorCount]) => ({ prefix, tensorCount }))
    .sort((a, b) => b.tensorCount - a.tensorCount || (a.prefix < b.prefix ? -1 : 1));
}

/** The one with the fewest names too many or too few: only to list the difference against something sensible. */
function closestArchitecture(tensors: readonly { readonly name: string }[]): ResnetArchitecture {
  const names = new Set(tensors.map(({ name }) => name));
  const distance = (architecture: ResnetArchitecture): number => {
    const specs = resnetTensorSpecs(architecture);
    const common = specs.filter(({ name }) => names.has(name)).length;
    return names.size + specs.length - 2 * common;
  };
  return [...RESNET_ARCHITECTURES].sort((a, b) => distance(a) - distance(b))[0] ?? 'RESNET18';
}

interface SortedTensors<T> {
  readonly encoder: Map<string, T>;
  readonly head: Map<string, T>;
  readonly classifier: Map<string, T>;
  readonly absentBatchCounts: string[];
  readonly missing: string[];
  readonly unexpected: string[];
  readonly misshapen: string[];
}

function sortTensors<T extends MappableTensor>(
  tensors: readonly T[],
  prefix: string,
  architecture: ResnetArchitecture,
): SortedTensors<T> {
  const specs = resnetTensorSpecs(architecture);
  const wanted = new Map(specs.map((spec) => [spec.name, spec]));
  const levels = outerLevels(prefix);
  const sorted: SortedTensors<T> = {
    encoder: new Map(),
    head: new Map(),
    classifier: new Map(),
    absentBatchCounts: [],
    missing: [],
    unexpected: [],
    misshapen: [],
  };
  const found = new Map<string, T>();
  for (const tensor of tensors) {
    const spec = tensor.name.startsWith(prefix) ? wanted.get(tensor.name.slice(prefix.length)) : undefined;
    const outerName = levels
      .map((level) => (tensor.name.startsWith(level) ? tensor.name.slice(level.length) : ''))
      .find((name) => HEAD_NAMES.has(name) || CLASSIFIER_NAMES.has(name));
    const place = outerName === undefined ? undefined : HEAD_NAMES.has(outerName) ? sorted.head : sorted.classifier;
    if (spec !== undefined && !found.has(spec.name)) {
      found.set(spec.name, tensor);
      if (!fits(tensor, spec))
        sorted.misshapen.push(
          `${tensor.name}: expected ${spec.kind === 'BATCH_COUNT' ? 'I64' : 'floating point'} [${spec.shape.join(', ')}], got ${told(tensor)}`,
        );
    } else if (spec === undefined && outerName !== undefined && place !== undefined && !place.has(outerName))
      place.set(outerName, tensor);
    else sorted.unexpected.push(tensor.name);
  }
  for (const spec of specs) {
    const tensor = found.get(spec.name);
    if (tensor !== undefined) sorted.encoder.set(spec.name, tensor);
    else if (spec.required) sorted.missing.push(`${prefix}${spec.name}`);
    else sorted.absentBatchCounts.push(spec.name);
  }
  checkLinearLayers(sorted.head, ['fc.1', 'fc.3'], embeddingDimOf(architecture), sorted);
  checkLinearLayers(sorted.classifier, ['fc'], embeddingDimOf(architecture), sorted);
  return sorted;
}

/** `model.resnet.`, `model.` and the empty one. */
function outerLevels(prefix: string): string[] {
  const words = prefix.split('.').slice(0, -1);
  return [...words.map((_word, index) => `${words.slice(0, words.length - index).join('.')}.`), ''];
}

function fits({ dtype, shape }: MappableTensor, spec: ResnetTensorSpec): boolean {
  const sameShape = shape.length === spec.shape.length && shape.every((size, axis) => size === spec.shape[axis]);
  return sameShape && (spec.kind === 'BATCH_COUNT' ? dtype === 'I64' : FLOATING.has(dtype));
}

/**
 * One linear layer feeds the next, from the embedding on; weights are [out, in]. A layer without its weight explains
 * nothing.
 */
function checkLinearLayers<T extends MappableTensor>(
  found: ReadonlyMap<string, T>,
  layers: readonly string[],
  embeddingDim: number,
  faults: SortedTensors<T>,
): void {
  if (found.size === 0) return;
  if (!layers.every((layer) => found.has(`${layer}.weight`))) {
    faults.unexpected.push(...[...found.values()].map(({ name }) => name));
    return;
  }
  let inputDim = embeddingDim;
  for (const layer of layers) {
    const weight = found.get(`${layer}.weight`);
    const bias = found.get(`${layer}.bias`);
    const outputDim = weight?.shape[0] ?? 0;
    const rightWeight =
      weight !== undefined &&
      weight.shape.length === 2 &&
      weight.shape[1] === inputDim &&
      outputDim > 0 &&
      FLOATING.has(weight.dtype);
    if (weight !== undefined && !rightWeight)
      faults.misshapen.push(`${weight.name}: expected floating point [any, ${inputDim}], got ${told(weight)}`);
    const rightBias =
      bias === undefined || (bias.shape.length === 1 && bias.shape[0] === outputDim && FLOATING.has(bias.dtype));
    if (!rightBias) faults.misshapen.push(`${bias.name}: expected floating point [${outputDim}], got ${told(bias)}`);
    inputDim = outputDim;
  }
}

function sizeOf<T extends MappableTensor>(tensors: ReadonlyMap<string, T>, name: string): number {
  return tensors.get(name)?.shape[0] ?? 0;
}

function told({ dtype, shape }: MappableTensor): string {
  return `${dtype} [${shape.join(', ')}]`;
}
