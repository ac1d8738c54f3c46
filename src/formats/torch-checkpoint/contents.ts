/** Finds a checkpoint's tensors and scalars in its parsed pickle. */
import type { RandomAccess } from '../random-access.ts';
import type { TorchDtype, TorchTensorData } from './dtype.ts';
import { quoted, TorchCheckpointError } from './fault.ts';
import type { TorchCheckpointLimits } from './limits.ts';
import type { OpenedCheckpoint, StorageReader } from './opened.ts';
import type { PickleDict, PickleNode, PickleValue, TensorView } from './pickle-values.ts';
import { elementCountOf, isRowMajor, materialised, spanBytes } from './tensor-view.ts';
import { BYTES_PER_ELEMENT } from './dtype.ts';

export interface TorchTensor {
  /** The path from the top level of the file: `state_dict.model.resnet.conv1.weight`. */
  readonly path: string;
  /** The name within its state dict: `model.resnet.conv1.weight`. */
  readonly name: string;
  readonly dtype: TorchDtype;
  /** Sizes of the axes; `[]` is a scalar. */
  readonly shape: readonly number[];
  /**
   * Reads the values, row-major, into a new array.
   * @param into an aligned buffer that the values are read into if they are contiguous in the file; the returned array
   * is then a view of it.
   * @throws TorchCheckpointError ENTRY_CORRUPT or READ_SHORT.
   */
  load(into?: Uint8Array<ArrayBuffer>): Promise<TorchTensorData>;
}

export interface TorchScalar {
  readonly path: string;
  /** Text is truncated to 1,000 characters. */
  readonly value: null | boolean | number | bigint | string;
}

/** A part of the file that holds no weights, such as an optimiser's states. */
export interface IgnoredPart {
  readonly path: string;
  readonly tensorCount: number;
}

export interface CheckpointContents {
  readonly tensors: readonly TorchTensor[];
  /** `state_dict.` if the file has such a part, whether or not the names of `tensors` begin with it. */
  readonly statePrefix: string | undefined;
  readonly scalars: readonly TorchScalar[];
  readonly ignored: readonly IgnoredPart[];
}

const STATE_DICT_KEYS = ['state_dict', 'model_state_dict'] as const;
const SCALAR_PARTS: ReadonlySet<string> = new Set(['hyper_parameters', 'hparams']);
/** Keys of plain training loops and of Lightning that hold no weights, for files without a `state_dict`. */
const PARTS_WITHOUT_WEIGHTS: ReadonlySet<string> = new Set([
  ...SCALAR_PARTS,
  'optimizer',
  'optimizers',
  'optimizer_states',
  'optimizer_state_dict',
  'lr_schedulers',
  'lr_scheduler',
  'scheduler',
  'scheduler_state_dict',
  'callbacks',
  'loops',
  'args',
]);
const MAX_SCALAR_TEXT = 1000;

/**
 * The weights: those of `state_dict` (or `model_state_dict`) if present, else everything except the parts that are
 * known to hold no weights. If another part also holds tensors, as timm's `state_dict_ema` does, all tensors get their
 * full paths from the top level, and the caller chooses the network. A container that occurs again is not visited
 * again.
 * @throws TorchCheckpointError NO_TENSORS, TOO_MANY_TENSORS, DUPLICATE_NAME, NAME_TOO_LONG, NESTING_TOO_DEEP or
 * TENSORS_EXCEED_FILE.
 */
export function contentsOf(
  opened: OpenedCheckpoint,
  source: RandomAccess,
  limits: TorchCheckpointLimits,
): CheckpointContents {
  const top = opened.value;
  if (typeof top !== 'object' || top === null || top.kind !== 'DICT')
    throw new TorchCheckpointError(
      'NO_TENSORS',
      'pickle',
      `The file holds ${describe(top)}, not a dict of tensors: save a state_dict().`,
    );
  const walker = new Walker(limits);
  const stateKey = STATE_DICT_KEYS.find((key) => isDict(top.entries.get(key)));
  const others = [...top.entries].filter(([key]) => key !== stateKey);
  const isIgnored = (key: PickleValue): boolean => typeof key === 'string' && PARTS_WITHOUT_WEIGHTS.has(key);
  const hasOnlyStateDict =
    stateKey !== undefined && !others.some(([key, part]) => !isIgnored(key) && tensorCountOf(part, limits) > 0);
  const parts = new Map(hasOnlyStateDict ? others : others.filter(([key]) => isIgnored(key)));

  const weights = new Map<string, TensorView>();
  const found = (path: string, tensor: TensorView): void => {
    if (weights.has(path))
      throw new TorchCheckpointError('DUPLICATE_NAME', path, `Two tensors are named ${quoted(path)}.`);
    weights.set(path, tensor);
    if (weights.size > limits.maxTensors)
      throw new TorchCheckpointError(
        'TOO_MANY_TENSORS',
        path,
        `The file holds more than ${limits.maxTensors} tensors.`,
      );
  };
  walker.walk(hasOnlyStateDict ? (top.entries.get(stateKey) ?? null) : withoutParts(top, parts), '', found);
  const ignored = [...parts].flatMap(([key, part]) => ignoredPart(walker, key, part));
  if (weights.size === 0) {
    const inside = [...top.entries.values()].find(
      (value) => typeof value === 'object' && value?.kind === 'PLACEHOLDER',
    );
    throw new TorchCheckpointError(
      'NO_TENSORS',
      'pickle',
      `The file holds no tensors that can be read${inside === undefined ? '' : `; it holds ${describe(inside)}`}: save a state_dict().`,
    );
  }
  checkExpansion(weights, source.byteSize, limits);
  const statePrefix = stateKey === undefined ? undefined : `${stateKey}.`;
  const pathBefore = hasOnlyStateDict ? (statePrefix ?? '') : '';
  return {
    tensors: [...weights].map(([name, view]) => tensorOf(`${pathBefore}${name}`, name, view, opened.storages)),
    statePrefix,
    scalars: scalarsOf(top, limits),
    ignored,
  };
}

class Walker {
  readonly #limits: TorchCheckpointLimits;
  readonly #seen = new Set<PickleNode>();

  constructor(limits: TorchCheckpointLimits) {
    this.#limits = limits;
  }

  walk(value: PickleValue, path: string, found: (path: string, tensor: TensorView) => void, depth = 0): void {
    if (typeof value !== 'object' || value === null) return;
    if (value.kind === 'TENSOR') return found(path, value);
    if (value.kind !== 'DICT' && value.kind !== 'LIST' && value.kind !== 'TUPLE' && value.kind !== 'SET') return;
    if (this.#seen.has(value)) return;
    this.#seen.add(value);
    if (depth >= this.#limits.maxNesting)
      throw new TorchCheckpointError(
        'NESTING_TOO_DEEP',
        place(path),
        `The file is nested more than ${this.#limits.maxNesting} levels deep.`,
      );
    for (const [key, item] of childrenOf(value)) {
      // Checked before the path is built, because building it costs its length for each child.
      if (typeof item !== 'object' || item === null) continue;
      const name = keyName(key);
      if (path.length + name.length >= this.#limits.maxNameLength)
        throw new TorchCheckpointError(
          'NAME_TOO_LONG',
          place(path),
          `A tensor's name is longer than ${this.#limits.maxNameLength} characters.`,
        );
      this.walk(item, path === '' ? name : `${path}.${name}`, found, depth + 1);
    }
  }
}

function place(path: string): string {
  return path === '' ? 'pickle' : path.slice(0, 200);
}

function childrenOf(
  node: Extract<PickleNode, { kind: 'DICT' | 'LIST' | 'TUPLE' | 'SET' }>,
): Iterable<[PickleValue, PickleValue]> {
  switch (node.kind) {
    case 'DICT':
      return node.entries;
    case 'LIST':
    case 'TUPLE':
      return node.items.entries();
    case 'SET':
      return [...node.items].entries();
  }
}

/** A copy of a plain dict without entries such as the optimiser's. */
function withoutParts(top: PickleDict, parts: ReadonlyMap<PickleValue, PickleValue>): PickleDict {
  return { kind: 'DICT', entries: new Map([...top.entries].filter(([key]) => !parts.has(key))) };
}

function tensorCountOf(part: PickleValue, limits: TorchCheckpointLimits): number {
  let tensorCount = 0;
  new Walker(limits).walk(part, '', () => (tensorCount += 1));
  return tensorCount;
}

function ignoredPart(walker: Walker, key: PickleValue, part: PickleValue): IgnoredPart[] {
  if (typeof part !== 'object' || part === null) return [];
  let tensorCount = 0;
  walker.walk(part, '', () => (tensorCount += 1));
  return [{ path: keyName(key).slice(0, MAX_SCALAR_TEXT), tensorCount }];
}

function scalarsOf(top: PickleDict, limits: TorchCheckpointLimits): TorchScalar[] {
  const scalars: TorchScalar[] = [];
  const add = (dict: PickleDict, prefix: string): void => {
    for (const [key, value] of dict.entries) {
      if (scalars.length >= limits.maxScalars) return;
      if (typeof value !== 'object' || value === null)
        scalars.push({
          path: `${prefix}${keyName(key).slice(0, MAX_SCALAR_TEXT)}`,
          value: typeof value === 'string' ? value.slice(0, MAX_SCALAR_TEXT) : value,
        });
    }
  };
  add(top, '');
  for (const [key, part] of top.entries)
    if (typeof key === 'string' && SCALAR_PARTS.has(key) && isDict(part)) add(part, `${key}.`);
  return scalars;
}

/** A small file must not expand to much memory, nor be read repeatedly. */
function checkExpansion(
  tensors: ReadonlyMap<string, TensorView>,
  fileBytes: number,
  limits: TorchCheckpointLimits,
): void {
  const allowed = fileBytes * limits.maxExpansion + limits.freeTensorBytes;
  let total = 0;
  for (const [name, view] of tensors) {
    total += Math.max(elementCountOf(view.shape) * BYTES_PER_ELEMENT[view.dtype], spanBytes(view));
    if (total > allowed)
      throw new TorchCheckpointError(
        'TENSORS_EXCEED_FILE',
        name,
        `The tensors would take more than ${allowed} bytes from a file of ${fileBytes}.`,
      );
  }
}

function tensorOf(path: string, name: string, view: TensorView, storages: StorageReader): TorchTensor {
  return {
    path,
    name,
    dtype: view.dtype,
    shape: view.shape,
    load: async (into) => {
      const span = spanBytes(view);
      const place = into?.length === span && isRowMajor(view) ? into : undefined;
      return materialised(
        view,
        span === 0 ? new Uint8Array(0) : await storages.read(view.storageKey, view.byteOffset, span, place),
      );
    },
  };
}

function keyName(key: PickleValue): string {
  if (typeof key !== 'object' || key === null) return String(key);
  return `<${key.kind === 'PLACEHOLDER' ? key.name : key.kind.toLowerCase()}>`;
}

function describe(value: PickleValue): string {
  if (typeof value !== 'object' || value === null) return `the value ${quoted(String(value))}`;
  return value.kind === 'PLACEHOLDER'
    ? `an object of ${quoted(value.name)}, which is not read`
    : `a ${value.kind.toLowerCase()}`;
}

function isDict(value: PickleValue | undefined): value is PickleDict {
  return typeof value === 'object' && value?.kind === 'DICT';
}
