/**
 * A pickle machine that executes no code: it implements every opcode of protocols 0 to 5 and builds only data. Imports
 * and calls are passed to a host, which returns data or an inert placeholder. See Python's pickletools for the opcodes.
 */
import { quoted } from './fault.ts';
import type { TorchCheckpointError } from './fault.ts';
import type { TorchCheckpointLimits } from './limits.ts';
import { PickleCursor } from './pickle-cursor.ts';
import type { PickleDict, PickleNode, PickleTuple, PickleValue } from './pickle-values.ts';

/** Resolves a pickle's globals and calls. */
export interface PickleHost {
  global(module: string, name: string, operands: PickleOperands): PickleNode;
  call(callable: PickleValue, args: PickleTuple, operands: PickleOperands): PickleValue;
  persistent(id: PickleValue, operands: PickleOperands): PickleValue;
}

/** The functions of the machine that a host may use. */
export interface PickleOperands {
  /** Offset of the opcode in the pickle, in bytes. */
  readonly byteOffset: number;
  /** Counts work that an opcode causes beyond its own step. */
  spend(steps: number): void;
  invalid(message: string): TorchCheckpointError;
}

export interface PickleResult {
  readonly value: PickleValue;
  /** Where the pickle ended: STOP is its last byte. */
  readonly byteSize: number;
}

/**
 * Runs the pickle that begins with the first byte; bytes after its STOP are ignored.
 * @param place names the pickle in errors.
 * @throws TorchCheckpointError with the first fault.
 */
export function readPickle(
  bytes: Uint8Array,
  place: string,
  host: PickleHost,
  limits: TorchCheckpointLimits,
): PickleResult {
  return new PickleMachine(bytes, place, host, limits).run();
}

class PickleMachine implements PickleOperands {
  byteOffset = 0;
  readonly #cursor: PickleCursor;
  readonly #host: PickleHost;
  readonly #limits: TorchCheckpointLimits;
  readonly #stack: PickleValue[] = [];
  readonly #marks: number[] = [];
  readonly #memo = new Map<number, PickleValue>();
  #steps = 0;

  constructor(bytes: Uint8Array, place: string, host: PickleHost, limits: TorchCheckpointLimits) {
    this.#cursor = new PickleCursor(bytes, place, limits);
    this.#host = host;
    this.#limits = limits;
  }

  run(): PickleResult {
    for (;;) {
      this.byteOffset = this.#cursor.offset;
      this.spend(1);
      const opcode = this.#cursor.uint8();
      if (opcode === 0x2e) break;
      this.#execute(opcode);
    }
    const value = this.#pop();
    if (this.#stack.length > 0 || this.#marks.length > 0)
      throw this.#cursor.fault(
        'STACK_LEFTOVER',
        `The pickle ends with ${this.#stack.length} unused values on its stack.`,
      );
    return { value, byteSize: this.#cursor.offset };
  }

  spend(steps: number): void {
    this.#steps += steps;
    if (this.#steps > this.#limits.maxSteps)
      throw this.#cursor.fault('TOO_MANY_STEPS', `The pickle takes more than ${this.#limits.maxSteps} steps.`);
  }

  invalid(message: string): TorchCheckpointError {
    return this.#cursor.fault('OPERAND_INVALID', message);
  }

  #execute(opcode: number): void {
    const cursor = this.#cursor;
    // prettier-ignore
    switch (String.fromCharCode(opcode)) {
      // Frames and protocol
      case '\x80': return this.#checkProtocol(cursor.uint8());
      case '\x95': return this.#checkFrame(cursor.uint64());
      // The stack
      case '(': return this.#mark();
      case '0': return this.#discard();
      case '1': return void this.#popMark();
      case '2': return this.#push(this.#top());
      // The memo
      case 'p': return this.#memoize(cursor.naturalLine());
      case 'q': return this.#memoize(cursor.uint8());
      case 'r': return this.#memoize(cursor.uint32());
      case '\x94': return this.#memoize(this.#memo.size);
      case 'g': return this.#recall(cursor.naturalLine());
      case 'h': return this.#recall(cursor.uint8());
      case 'j': return this.#recall(cursor.uint32());
      // Constants and numbers
      case 'N': return this.#push(null);
      case '\x88': return this.#push(true);
      case '\x89': return this.#push(false);
      case 'I': return this.#push(cursor.integerLine(''));
      case 'L': return this.#push(cursor.integerLine('L'));
      case 'J': return this.#push(cursor.int32());
      case 'K': return this.#push(cursor.uint8());
      case 'M': return this.#push(cursor.uint16());
      case '\x8a': return this.#push(cursor.integer(cursor.uint8()));
      case '\x8b': return this.#push(cursor.integer(cursor.int32()));
      case 'F': return this.#push(cursor.floatLine());
      case 'G': return this.#push(cursor.float64());
      // Text and bytes
      case 'S': return this.#push(cursor.reprLine());
      case 'T': return this.#pushTextOrBytes(cursor.int32());
      case 'U': return this.#pushTextOrBytes(cursor.uint8());
      case 'V': return this.#push(cursor.rawUnicodeLine());
      case 'X': return this.#push(cursor.utf8(cursor.uint32()));
      case '\x8c': return this.#push(cursor.utf8(cursor.uint8()));
      case '\x8d': return this.#push(cursor.utf8(cursor.uint64()));
      case 'B': return this.#pushBytes(cursor.uint32());
      case 'C': return this.#pushBytes(cursor.uint8());
      case '\x8e':
      case '\x96': return this.#pushBytes(cursor.uint64());
      // Containers
      case ')': return this.#push({ kind: 'TUPLE', items: [] });
      case 't': return this.#push({ kind: 'TUPLE', items: this.#popMark() });
      case '\x85': return this.#push({ kind: 'TUPLE', items: this.#popMany(1) });
      case '\x86': return this.#push({ kind: 'TUPLE', items: this.#popMany(2) });
      case '\x87': return this.#push({ kind: 'TUPLE', items: this.#popMany(3) });
      case ']': return this.#push({ kind: 'LIST', items: [] });
      case 'l': return this.#push({ kind: 'LIST', items: this.#popMark() });
      case 'a': return this.#append(this.#popMany(1));
      case 'e': return this.#append(this.#popMark());
      case '}': return this.#push({ kind: 'DICT', entries: new Map() });
      case 'd': return this.#pushDict(this.#popMark());
      case 's': return this.#setItems(this.#popMany(2));
      case 'u': return this.#setItems(this.#popMark());
      case '\x8f': return this.#push({ kind: 'SET', items: new Set() });
      case '\x91': return this.#push({ kind: 'SET', items: new Set(this.#popMark()) });
      case '\x90': return this.#addItems(this.#popMark());
      // Names, and what would be calls
      case 'c': return this.#push(this.#host.global(cursor.line(), cursor.line(), this));
      case '\x93': return this.#stackGlobal();
      case '\x82': return this.#push(this.#host.global('copyreg', `extension ${cursor.uint8()}`, this));
      case '\x83': return this.#push(this.#host.global('copyreg', `extension ${cursor.uint16()}`, this));
      case '\x84': return this.#push(this.#host.global('copyreg', `extension ${cursor.uint32()}`, this));
      case 'R':
      case '\x81': return this.#call(this.#popMany(2));
      case '\x92': return this.#callWithKeywords(this.#popMany(3));
      case 'i': return this.#instance(this.#host.global(cursor.line(), cursor.line(), this), this.#popMark());
      case 'o': return this.#object(this.#popMark());
      // The state of an object is discarded.
      case 'b': return this.#build();
      case 'P': return this.#push(this.#host.persistent(cursor.line(), this));
      case 'Q': return this.#push(this.#host.persistent(this.#pop(), this));
      case '\x97':
      case '\x98': throw cursor.fault('OPCODE_UNSUPPORTED', 'The pickle needs an out-of-band buffer.');
      default: throw cursor.fault('OPCODE_UNKNOWN', `0x${opcode.toString(16)} is not an opcode of pickle.`);
    }
  }

  #checkProtocol(protocol: number): void {
    if (protocol > 5)
      throw this.#cursor.fault('PROTOCOL_UNSUPPORTED', `Pickle protocol ${protocol} is not supported; 0 to 5 are.`);
  }

  #checkFrame(byteSize: number): void {
    if (byteSize > this.#cursor.remainingBytes)
      throw this.#cursor.fault('PICKLE_TRUNCATED', 'A frame of the pickle reaches past its end.');
  }

  #push(value: PickleValue): void {
    this.#stack.push(value);
  }

  /** The values that an opcode may pop: those above the last mark. */
  #require(count: number): void {
    if (this.#stack.length - (this.#marks.at(-1) ?? 0) < count)
      throw this.#cursor.fault('STACK_UNDERFLOW', 'The pickle pops a value from an empty stack.');
  }

  #top(): PickleValue {
    this.#require(1);
    return this.#stack.at(-1) ?? null;
  }

  #pop(): PickleValue {
    this.#require(1);
    return this.#stack.pop() ?? null;
  }

  #popMany(count: number): PickleValue[] {
    this.#require(count);
    return this.#stack.splice(this.#stack.length - count);
  }

  #mark(): void {
    if (this.#marks.length >= this.#limits.maxNesting)
      throw this.#cursor.fault(
        'NESTING_TOO_DEEP',
        `The pickle is nested more than ${this.#limits.maxNesting} levels deep.`,
      );
    this.#marks.push(this.#stack.length);
  }

  #popMark(): PickleValue[] {
    const mark = this.#marks.pop();
    if (mark === undefined) throw this.#cursor.fault('MARK_MISSING', 'The pickle uses a mark that it has not set.');
    return this.#stack.splice(mark);
  }

  #discard(): void {
    if (this.#stack.length === this.#marks.at(-1)) this.#popMark();
    else this.#pop();
  }

  #memoize(key: number): void {
    this.#memo.set(key, this.#top());
    if (this.#memo.size > this.#limits.maxMemoEntries)
      throw this.#cursor.fault(
        'MEMO_TOO_LARGE',
        `The pickle memoizes more than ${this.#limits.maxMemoEntries} values.`,
      );
  }

  #recall(key: number): void {
    const value = this.#memo.get(key);
    if (value === undefined)
      throw this.#cursor.fault('MEMO_MISSING', `The pickle reads memo ${key}, which it has not written.`);
    this.#push(value);
  }

  #pushBytes(byteSize: number): void {
    this.#cursor.skipText(byteSize);
    this.#push({ kind: 'BYTES', byteSize });
  }

  #pushTextOrBytes(byteSize: number): void {
    this.#push(this.#cursor.utf8OrBytes(byteSize) ?? { kind: 'BYTES', byteSize });
  }

  #pushDict(items: readonly PickleValue[]): void {
    const dict: PickleDict = { kind: 'DICT', entries: new Map() };
    this.#push(dict);
    this.#setItems(items);
  }

  #setItems(items: readonly PickleValue[]): void {
    const target = this.#target('DICT');
    if (items.length % 2 !== 0) throw this.invalid('The pickle sets a key without a value.');
    if (target === undefined) return;
    for (let index = 0; index < items.length; index += 2)
      target.entries.set(items[index] ?? null, items[index + 1] ?? null);
  }

  #append(items: readonly PickleValue[]): void {
    const target = this.#target('LIST');
    for (const item of items) target?.items.push(item);
  }

  #addItems(items: readonly PickleValue[]): void {
    const target = this.#target('SET');
    for (const item of items) target?.items.add(item);
  }

  /** The container on top of the stack; undefined if it is a placeholder, which discards its items. */
  #target<K extends 'DICT' | 'LIST' | 'SET'>(kind: K): Extract<PickleNode, { kind: K }> | undefined {
    const target = this.#top();
    if (typeof target === 'object' && target !== null) {
      if (target.kind === 'PLACEHOLDER') return undefined;
      if (isKind(target, kind)) return target;
    }
    throw this.invalid(`The pickle adds items to something that is not a ${kind.toLowerCase()}.`);
  }

  #stackGlobal(): void {
    const [module, name] = this.#popMany(2);
    if (typeof module !== 'string' || typeof name !== 'string')
      throw this.invalid('The pickle names a global by something that is not a string.');
    this.#push(this.#host.global(module, name, this));
  }

  #call([callable = null, args = null]: readonly PickleValue[]): void {
    if (typeof args !== 'object' || args === null || args.kind !== 'TUPLE')
      throw this.invalid('The pickle calls with something that is not a tuple.');
    this.#push(this.#host.call(callable, args, this));
  }

  #callWithKeywords([callable = null, args = null, keywords = null]: readonly PickleValue[]): void {
    if (typeof keywords !== 'object' || keywords === null || keywords.kind !== 'DICT')
      throw this.invalid('The pickle calls with keywords that are not a dict.');
    const isPlaceholder = typeof callable === 'object' && callable?.kind === 'PLACEHOLDER';
    if (keywords.entries.size > 0 && !isPlaceholder)
      throw this.invalid('The pickle passes keywords to a callable that takes none.');
    this.#call([callable, args]);
  }

  #instance(callable: PickleValue, items: readonly PickleValue[]): void {
    this.#push(this.#host.call(callable, { kind: 'TUPLE', items }, this));
  }

  #object(items: readonly PickleValue[]): void {
    const [callable, ...args] = items;
    if (callable === undefined)
      throw this.#cursor.fault('STACK_UNDERFLOW', 'The pickle makes an object without a class.');
    this.#instance(callable, args);
  }

  #build(): void {
    this.#pop();
    const target = this.#top();
    if (typeof target !== 'object' || target === null)
      throw this.invalid(`The pickle sets the state of ${quoted(String(target))}.`);
  }
}

function isKind<K extends PickleNode['kind']>(node: PickleNode, kind: K): node is Extract<PickleNode, { kind: K }> {
  return node.kind === kind;
}
