/**
 * Resolves the globals in a checkpoint's pickle: the few that build tensors and containers, and placeholders for all
 * others.
 */
import type { TorchCheckpointLimits } from './limits.ts';
import { BYTES_PER_ELEMENT } from './dtype.ts';
import type { TorchDtype } from './dtype.ts';
import { quoted, TorchCheckpointError } from './fault.ts';
import type { PickleHost, PickleOperands } from './pickle-machine.ts';
import type {
  Builder,
  DtypeName,
  PickleNode,
  PickleTuple,
  PickleValue,
  StorageType,
  StorageView,
} from './pickle-values.ts';
import { isNatural, tensorView } from './tensor-view.ts';

/** A global that was left inert. */
export interface InertGlobal {
  /** `posix.system` */
  readonly name: string;
  /** Where the pickle first references it. */
  readonly byteOffset: number;
  /** Number of calls of it, or of its results, that were not executed. */
  readonly callCount: number;
}

/** A storage as the pickle declares it. */
export interface DeclaredStorage {
  readonly key: string;
  readonly dtype: TorchDtype | undefined;
  readonly byteSize: number;
}

const builder = (builds: Builder['builds']): Builder => ({ kind: 'BUILDER', builds });
const storage = (dtype: TorchDtype | undefined): StorageType => ({ kind: 'STORAGE_TYPE', dtype });
const dtype = (name: TorchDtype): DtypeName => ({ kind: 'DTYPE', dtype: name });

const STORAGES: readonly (readonly [string, TorchDtype])[] = [
  ['DoubleStorage', 'F64'],
  ['FloatStorage', 'F32'],
  ['HalfStorage', 'F16'],
  ['BFloat16Storage', 'BF16'],
  ['LongStorage', 'I64'],
  ['IntStorage', 'I32'],
  ['ShortStorage', 'I16'],
  ['CharStorage', 'I8'],
  ['ByteStorage', 'U8'],
  ['BoolStorage', 'BOOL'],
];
const DTYPES: readonly (readonly [string, TorchDtype])[] = [
  ['float64', 'F64'],
  ['float32', 'F32'],
  ['float16', 'F16'],
  ['bfloat16', 'BF16'],
  ['int64', 'I64'],
  ['int32', 'I32'],
  ['int16', 'I16'],
  ['int8', 'I8'],
  ['uint8', 'U8'],
  ['bool', 'BOOL'],
];

/**
 * By `module name` with a space: with a dot, module `a.b` and name `c` could pass for module `a` and name `b.c`.
 * Builtins are under their names in Python 2 and 3.
 */
const KNOWN_GLOBALS: ReadonlyMap<string, PickleNode> = new Map<string, PickleNode>([
  ['collections OrderedDict', builder('DICT')],
  ['collections defaultdict', builder('DEFAULT_DICT')],
  ...['builtins', '__builtin__'].flatMap((module): [string, PickleNode][] => [
    [`${module} dict`, builder('DICT')],
    [`${module} list`, builder('LIST')],
    [`${module} tuple`, builder('TUPLE')],
    [`${module} set`, builder('SET')],
    [`${module} frozenset`, builder('SET')],
    [`${module} bytes`, builder('BYTES')],
    [`${module} bytearray`, builder('BYTES')],
  ]),
  ['_codecs encode', builder('BYTES')],
  ['torch Size', builder('TUPLE')],
  ['torch._utils _rebuild_tensor', builder('TENSOR')],
  ['torch._utils _rebuild_tensor_v2', builder('TENSOR')],
  ['torch._utils _rebuild_tensor_v3', builder('TENSOR_WITH_DTYPE')],
  ['torch._utils _rebuild_parameter', builder('PARAMETER')],
  ['torch._utils _rebuild_parameter_with_state', builder('PARAMETER')],
  ['torch._tensor _rebuild_from_type_v2', builder('TENSOR_OF_TYPE')],
  ['torch.storage UntypedStorage', storage(undefined)],
  ...['torch', 'torch.cuda'].flatMap((module) =>
    STORAGES.map(([name, type]): [string, PickleNode] => [`${module} ${name}`, storage(type)]),
  ),
  ...DTYPES.map(([name, type]): [string, PickleNode] => [`torch ${name}`, dtype(type)]),
]);

export class TorchHost implements PickleHost {
  readonly storages = new Map<string, DeclaredStorage>();
  readonly #inert = new Map<string, InertGlobal>();
  readonly #limits: TorchCheckpointLimits;
  readonly #place: string;

  /** @param place names the pickle in errors. */
  constructor(place: string, limits: TorchCheckpointLimits) {
    this.#place = place;
    this.#limits = limits;
  }

  get inertGlobals(): InertGlobal[] {
    return [...this.#inert.values()];
  }

  global(module: string, name: string, operands: PickleOperands): PickleNode {
    const { maxNameLength } = this.#limits;
    if (module.length + name.length > maxNameLength)
      throw this.#fault(
        'NAME_TOO_LONG',
        operands,
        `The pickle names a global with more than ${maxNameLength} characters.`,
      );
    const known = KNOWN_GLOBALS.get(`${module} ${name}`);
    if (known !== undefined) return known;
    const fullName = `${module}.${name}`;
    if (!this.#inert.has(fullName))
      this.#inert.set(fullName, { name: fullName, byteOffset: operands.byteOffset, callCount: 0 });
    return { kind: 'PLACEHOLDER', name: fullName };
  }

  call(callable: PickleValue, args: PickleTuple, operands: PickleOperands): PickleValue {
    if (typeof callable !== 'object' || callable === null)
      throw operands.invalid(`The pickle calls ${quoted(String(callable))}.`);
    switch (callable.kind) {
      case 'PLACEHOLDER':
        return this.#leftInert(callable.name, operands);
      case 'BUILDER':
        return this.#build(callable.builds, args.items, operands);
      case 'STORAGE_TYPE':
      case 'DTYPE':
      case 'BYTES':
      case 'LIST':
      case 'TUPLE':
      case 'SET':
      case 'DICT':
      case 'STORAGE':
      case 'TENSOR':
        throw operands.invalid(`The pickle calls a ${callable.kind.toLowerCase().replace('_', ' ')}.`);
    }
  }

  /**
   * `('storage', type, key, location, size[, view])`, the size in elements; the location (cpu, cuda:0) does not matter
   * here.
   */
  persistent(id: PickleValue, operands: PickleOperands): PickleValue {
    const invalid = (what: string): TorchCheckpointError =>
      this.#fault('PERSISTENT_ID_INVALID', operands, `The pickle refers to something outside itself ${what}.`);
    if (typeof id !== 'object' || id === null || id.kind !== 'TUPLE') throw invalid('by something that is not a tuple');
    const [what, type = null, key, location, size, view = null] = id.items;
    // Before 1.6 PyTorch saved a whole module as its class with the source code.
    if (what === 'module') return isPlaceholder(type) ? type : this.#leftInert('torch.nn.Module', operands);
    if (what !== 'storage' || id.items.length < 5 || id.items.length > 6) throw invalid('that is not a storage');
    if (typeof key !== 'string' || typeof location !== 'string' || key.length > this.#limits.maxNameLength)
      throw invalid('by a key or location that is not a string');
    if (!isNatural(size)) throw invalid('whose size is not a non-negative integer');
    // Complex, quantised and 8-bit floating types are not supported: these types and their tensors stay inert.
    if (isPlaceholder(type)) return this.#leftInert(type.name, operands);
    if (typeof type !== 'object' || type === null || type.kind !== 'STORAGE_TYPE')
      throw invalid('whose type is not a storage type');
    const elementBytes = type.dtype === undefined ? 1 : BYTES_PER_ELEMENT[type.dtype];
    const declared: DeclaredStorage = { key, dtype: type.dtype, byteSize: size * elementBytes };
    if (!Number.isSafeInteger(declared.byteSize)) throw invalid('whose byte size overflows');
    const earlier = this.storages.get(key);
    if (earlier !== undefined && (earlier.dtype !== declared.dtype || earlier.byteSize !== declared.byteSize)) {
      throw this.#fault(
        'STORAGE_CONFLICT',
        operands,
        `The pickle declares storage ${quoted(key)} twice, with different types or sizes.`,
      );
    }
    this.storages.set(key, declared);
    if (view === null) return { kind: 'STORAGE', key, dtype: type.dtype, byteOffset: 0, byteSize: declared.byteSize };
    return storageView(declared, view, elementBytes, invalid);
  }

  #build(builds: Builder['builds'], args: readonly PickleValue[], operands: PickleOperands): PickleValue {
    switch (builds) {
      case 'DICT':
        return { kind: 'DICT', entries: new Map(this.#pairs(args, operands)) };
      case 'DEFAULT_DICT':
        return { kind: 'DICT', entries: new Map(this.#pairs(args.slice(1), operands)) };
      case 'LIST':
        return { kind: 'LIST', items: [...this.#items(args, operands)] };
      case 'TUPLE':
        return { kind: 'TUPLE', items: [...this.#items(args, operands)] };
      case 'SET':
        return { kind: 'SET', items: new Set(this.#items(args, operands)) };
      case 'BYTES':
        return { kind: 'BYTES', byteSize: typeof args[0] === 'string' ? args[0].length : 0 };
      case 'TENSOR':
      case 'TENSOR_WITH_DTYPE':
        return this.#tensor(builds, args, operands);
      case 'PARAMETER':
        return this.#parameter(args, operands);
      case 'TENSOR_OF_TYPE':
        return this.#tensorOfType(args, operands);
    }
  }

  /** `(storage, offset, size, stride, ...)`; the third version has its dtype at the seventh place. */
  #tensor(builds: 'TENSOR' | 'TENSOR_WITH_DTYPE', args: readonly PickleValue[], operands: PickleOperands): PickleNode {
    const [source = null, offset = null, shape = null, strides = null, , , type = null] = args;
    if (isPlaceholder(source)) return this.#leftInert(source.name, operands);
    const place = `${this.#place} byte ${operands.byteOffset}`;
    const invalid = (): TorchCheckpointError =>
      new TorchCheckpointError(
        'TENSOR_INVALID',
        place,
        'The pickle makes a tensor from something that is not a storage, offset, shape and strides.',
      );
    if (typeof source !== 'object' || source === null || source.kind !== 'STORAGE') throw invalid();
    if (isPlaceholder(type) && builds === 'TENSOR_WITH_DTYPE') return this.#leftInert(type.name, operands);
    const declared =
      builds === 'TENSOR_WITH_DTYPE'
        ? typeof type === 'object' && type?.kind === 'DTYPE'
          ? type.dtype
          : undefined
        : source.dtype;
    if (declared === undefined || (source.dtype !== undefined && source.dtype !== declared)) throw invalid();
    const sizes = this.#naturals(shape, operands);
    const steps = this.#naturals(strides, operands);
    if (!isNatural(offset) || sizes === undefined || steps === undefined) throw invalid();
    return tensorView(source, { dtype: declared, offset, shape: sizes, strides: steps }, place, this.#limits);
  }

  #parameter(args: readonly PickleValue[], operands: PickleOperands): PickleNode {
    const [data = null] = args;
    if (typeof data === 'object' && data !== null && (data.kind === 'TENSOR' || data.kind === 'PLACEHOLDER'))
      return data;
    throw this.#fault('TENSOR_INVALID', operands, 'The pickle makes a parameter from something that is not a tensor.');
  }

  /**
   * `(function, type, args, state)`: a subclass of Tensor, or a tensor with attributes; its numbers are those of the
   * plain tensor.
   */
  #tensorOfType(args: readonly PickleValue[], operands: PickleOperands): PickleValue {
    const [make = null, , inner = null] = args;
    if (isPlaceholder(make)) return this.#leftInert(make.name, operands);
    const isTuple = typeof inner === 'object' && inner?.kind === 'TUPLE';
    // The function must not be this one again, because the nesting could then be as deep as the file is long.
    if (!isTuple || typeof make !== 'object' || make?.kind !== 'BUILDER' || make.builds === 'TENSOR_OF_TYPE') {
      throw this.#fault('TENSOR_INVALID', operands, 'The pickle makes a tensor in an unknown way.');
    }
    return this.#build(make.builds, inner.items, operands);
  }

  /** The initial items of a container, if any. An inert argument gives an empty container. */
  #items(args: readonly PickleValue[], operands: PickleOperands): Iterable<PickleValue> {
    const [items = null] = args;
    if (args.length === 0 || isPlaceholder(items)) return [];
    if (
      typeof items !== 'object' ||
      items === null ||
      (items.kind !== 'LIST' && items.kind !== 'TUPLE' && items.kind !== 'SET')
    )
      throw operands.invalid('The pickle makes a container from something that has no items.');
    operands.spend(items.kind === 'SET' ? items.items.size : items.items.length);
    return items.items;
  }

  #pairs(args: readonly PickleValue[], operands: PickleOperands): [PickleValue, PickleValue][] {
    const [items = null] = args;
    if (typeof items === 'object' && items?.kind === 'DICT') {
      operands.spend(items.entries.size);
      return [...items.entries];
    }
    return Array.from(this.#items(args, operands), (pair): [PickleValue, PickleValue] => {
      const isPair =
        typeof pair === 'object' &&
        pair !== null &&
        (pair.kind === 'TUPLE' || pair.kind === 'LIST') &&
        pair.items.length === 2;
      if (!isPair) throw operands.invalid('The pickle makes a dict from something that is not a list of pairs.');
      return [pair.items[0] ?? null, pair.items[1] ?? null];
    });
  }

  #naturals(value: PickleValue, operands: PickleOperands): number[] | undefined {
    if (typeof value !== 'object' || value === null || (value.kind !== 'TUPLE' && value.kind !== 'LIST'))
      return undefined;
    const items: readonly PickleValue[] = value.items;
    if (items.length > this.#limits.maxRank)
      throw this.#fault(
        'TENSOR_INVALID',
        operands,
        `The pickle holds a tensor of ${items.length} axes; at most ${this.#limits.maxRank} are read.`,
      );
    const naturals = items.filter(isNatural);
    return naturals.length === items.length ? naturals : undefined;
  }

  #leftInert(name: string, operands: PickleOperands): PickleNode {
    const known = this.#inert.get(name) ?? { name, byteOffset: operands.byteOffset, callCount: 0 };
    this.#inert.set(name, { ...known, callCount: known.callCount + 1 });
    return { kind: 'PLACEHOLDER', name };
  }

  #fault(code: TorchCheckpointError['fault'], operands: PickleOperands, message: string): TorchCheckpointError {
    return new TorchCheckpointError(code, `${this.#place} byte ${operands.byteOffset}`, message);
  }
}

/** `(key, offset, size)` in elements: how PyTorch before 1.6 wrote a storage that is a part of another. */
function storageView(
  declared: DeclaredStorage,
  view: PickleValue,
  elementBytes: number,
  invalid: (what: string) => TorchCheckpointError,
): StorageView {
  const items = typeof view === 'object' && view?.kind === 'TUPLE' && view.items.length === 3 ? view.items : [];
  const [viewKey, offset, size] = items;
  if (typeof viewKey !== 'string' || !isNatural(offset) || !isNatural(size))
    throw invalid('by a view that is not a key, offset and size');
  const byteOffset = offset * elementBytes;
  const byteSize = size * elementBytes;
  if (byteOffset + byteSize > declared.byteSize) throw invalid('by a view that reaches past its storage');
  return { kind: 'STORAGE', key: declared.key, dtype: declared.dtype, byteOffset, byteSize };
}

function isPlaceholder(value: PickleValue): value is Extract<PickleNode, { kind: 'PLACEHOLDER' }> {
  return typeof value === 'object' && value?.kind === 'PLACEHOLDER';
}
