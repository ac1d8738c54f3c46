/**
 * Turns a file of weights, whatever its format, into the one form that this registry stores: float32 safetensors under
 * torchvision's names. The file is untrusted, so this runs in a separate process (encoder-file.program.ts) that can be
 * killed.
 */
import { createHash } from 'node:crypto';
import { fstat, read } from 'node:fs';
import { promisify } from 'node:util';
import { DomainError } from '../../errors.ts';
import { accessFile, type RandomAccess } from '../../formats/random-access.ts';
import {
  layOutSafetensors,
  readForeignSafetensors,
  readSafetensors,
  SafetensorsError,
  type SafetensorsPlan,
} from '../../formats/safetensors.ts';
import { tensorDigestOf } from '../../formats/tensor-digest.ts';
import {
  readTorchCheckpoint,
  TorchCheckpointError,
  toFloat32,
  type IgnoredPart,
  type TorchScalar,
  type TorchTensorData,
} from '../../formats/torch-checkpoint/index.ts';
import { embeddingDimOf, resnetTensorSpecs } from '../../formats/torchvision-resnet.ts';
import { mapToEncoder, type MappableTensor, type RefusedMapping } from '../../formats/weights-map.ts';
import type { ImportedEncoder } from './import.rules.ts';
import type { ImportedContentsRecord } from './models.records.ts';
import type { InputContract } from './models.rules.ts';

export interface EncoderFileTask {
  /** The file's original name, if known. */
  readonly fileName: string | null;
  readonly expectedSha256: string | null;
  readonly expectedByteSize: number | null;
  /** The stated encoder; detected if absent. */
  readonly encoder: ImportedEncoder | null;
  readonly keyPrefix: string | null;
  /** The input contract, which is written into the stored file. */
  readonly inputContract: InputContract;
}

/** The facts that were read from a file of weights. */
export interface EncoderFacts {
  readonly encoder: ImportedEncoder;
  readonly embeddingDim: number;
  /** sha256 of the original file. */
  readonly sourceSha256: string;
  readonly sourceByteSize: number;
  /** Digest of the encoder's tensors, computed by `tensorDigestOf`. */
  readonly tensorDigest: string;
  readonly contents: ImportedContentsRecord;
}

export interface EncoderFile extends EncoderFacts {
  /** Safetensors. The same weights with the same contract give the same bytes, independent of the original file. */
  readonly bytes: Uint8Array<ArrayBuffer>;
}

interface SourceTensor extends MappableTensor {
  /** The tensor's values; values that are contiguous in the file may be read directly into the given buffer. */
  load(into: Uint8Array<ArrayBuffer>): Promise<TorchTensorData>;
}

interface OpenedFile {
  readonly format: ImportedContentsRecord['format'];
  readonly tensors: readonly SourceTensor[];
  /** See `CheckpointContents`. */
  readonly statePrefix: string | undefined;
  readonly inertGlobals: readonly string[];
  readonly ignoredParts: readonly string[];
  readonly scalars: readonly TorchScalar[];
}

/** Several times the size of the largest Lightning checkpoints of a ResNet-101. */
const MAX_FILE_BYTES = 4 * 1024 ** 3;
/** A safetensors file is read whole. */
const MAX_SAFETENSORS_BYTES = 1024 ** 3;
const HASH_CHUNK_BYTES = 1024 * 1024;
/** Limits of the recorded other contents of a file: enough to identify it without bloating the row. */
const MAX_LISTED = 200;
const MAX_TEXT = 300;
/** Number of names of each kind that an error lists. */
const MAX_NAMES = 40;

/**
 * The file is passed as a descriptor: Node's permission model lets the process use inherited descriptors, but open no
 * file itself.
 */
const statOf = promisify(fstat);
const readAt = promisify(read);

/**
 * @param fd an open regular file; the caller closes it.
 * @throws DomainError FILE_TOO_LARGE, DIGEST_MISMATCH, FORMAT_INVALID, CHECKPOINT_KEYS_MISMATCH (with the keys),
 * CHECKPOINT_INCOMPATIBLE (another encoder than stated), FILE_CHANGED (while it was read).
 */
export async function readEncoderFile(fd: number, task: EncoderFileTask): Promise<EncoderFile> {
  const before = await statOf(fd, { bigint: true });
  const byteSize = Number(before.size);
  if (byteSize > MAX_FILE_BYTES) throw tooLarge(byteSize, MAX_FILE_BYTES);
  checkExpected('size', task.expectedByteSize === null ? null : `${task.expectedByteSize} bytes`, `${byteSize} bytes`);
  // The whole file is hashed before parsing only if a sha256 is expected, because hashing gigabytes takes long.
  const statedSha256 = task.expectedSha256 === null ? undefined : await sha256Of(fd, byteSize);
  if (statedSha256 !== undefined) checkExpected('sha256', task.expectedSha256, statedSha256);
  const source = accessFile(
    { read: (buffer, offset, length, position) => readAt(fd, buffer, offset, length, position) },
    byteSize,
  );
  const file = await openWeights(source).catch((error: unknown) => {
    throw explained(error);
  });

  const mapped = mapToEncoder(file.tensors, {
    ...(task.encoder === null ? {} : { architecture: task.encoder }),
    ...(task.keyPrefix === null ? {} : { prefix: prefixInFile(task.keyPrefix, file) }),
  });
  if (mapped.outcome === 'REFUSED') throw refusal(mapped, file.tensors, task.fileName);
  const metadata = {
    format: 'pt',
    architecture: mapped.architecture,
    inputContract: JSON.stringify(task.inputContract),
  };
  const bytes = await storedFile(mapped.architecture, mapped.tensors, metadata).catch((error: unknown) => {
    throw explained(error);
  });
  const sourceSha256 = statedSha256 ?? (await sha256Of(fd, byteSize));
  const after = await statOf(fd, { bigint: true });
  if (after.mtimeNs !== before.mtimeNs || after.size !== before.size)
    throw new DomainError({
      code: 'FILE_CHANGED',
      message: 'The file changed while it was read.',
      hint: 'Import the file again when it is complete.',
      retryable: true,
    });
  const { architecture, prefix, projectionHead, classifier } = mapped;
  return {
    encoder: architecture,
    embeddingDim: embeddingDimOf(architecture),
    sourceSha256,
    sourceByteSize: byteSize,
    tensorDigest: tensorDigestOf(readSafetensors(bytes).tensors),
    contents: {
      format: file.format,
      keyPrefix: prefix,
      inertGlobals: file.inertGlobals.slice(0, MAX_LISTED).map(cleanText),
      projectionHead:
        projectionHead === undefined
          ? null
          : { hiddenDim: projectionHead.hiddenDim, projectionDim: projectionHead.projectionDim },
      classifier: classifier === undefined ? null : { classCount: classifier.classCount },
      ignoredParts: [...mapped.ignored.map(ignoredInWords), ...file.ignoredParts].slice(0, MAX_LISTED).map(cleanText),
      scalars: file.scalars
        .slice(0, MAX_LISTED)
        .map(({ path, value }) => ({ path: cleanText(path), value: cleanScalar(value) })),
    },
    bytes,
  };
}

async function sha256Of(fd: number, byteSize: number): Promise<string> {
  const hash = createHash('sha256');
  const buffer = Buffer.alloc(HASH_CHUNK_BYTES);
  for (let position = 0; position < byteSize;) {
    const { bytesRead } = await readAt(fd, buffer, 0, buffer.length, position);
    if (bytesRead === 0) break;
    hash.update(buffer.subarray(0, bytesRead));
    position += bytesRead;
  }
  return hash.digest('hex');
}

function checkExpected(what: string, expected: string | null, found: string): void {
  if (expected === null || expected === found) return;
  throw new DomainError({
    code: 'DIGEST_MISMATCH',
    message: `The file's ${what} is ${found}, not the expected ${expected}.`,
    hint: 'The file is damaged or a different one. Download it again, or check the expected value at its source.',
  });
}

function tooLarge(byteSize: number, limit: number): DomainError {
  return new DomainError({
    code: 'FILE_TOO_LARGE',
    message: `The file has ${byteSize} bytes; at most ${limit} are read.`,
    hint: 'Save only the state dict of the encoder.',
  });
}

async function openWeights(source: RandomAccess): Promise<OpenedFile> {
  const beginning = await source.read(0, Math.min(9, source.byteSize));
  // A header length below 2^32 followed by JSON; neither a pickle nor a zip file begins like this.
  const isSafetensors = beginning[8] === 0x7b && beginning.subarray(4, 8).every((byte) => byte === 0);
  if (!isSafetensors) {
    const { format, tensors, statePrefix, placeholders, ignored, scalars } = await readTorchCheckpoint(source);
    return {
      format: format === 'ZIP' ? 'TORCH_ZIP' : 'TORCH_LEGACY',
      tensors,
      statePrefix,
      inertGlobals: placeholders.map(({ name }) => name),
      ignoredParts: ignored.map(ignoredInWords),
      scalars,
    };
  }
  if (source.byteSize > MAX_SAFETENSORS_BYTES) throw tooLarge(source.byteSize, MAX_SAFETENSORS_BYTES);
  const { tensors, metadata } = readForeignSafetensors(await source.read(0, source.byteSize));
  return {
    format: 'SAFETENSORS',
    tensors: tensors.map((tensor) => ({ ...tensor, load: async () => tensor })),
    statePrefix: undefined,
    inertGlobals: [],
    ignoredParts: [],
    scalars: Object.entries(metadata).map(([path, value]) => ({ path, value })),
  };
}

/**
 * Resolves a stated prefix to the form in the tensor names: users give it either from the top level of the file or
 * within its state dict.
 */
function prefixInFile(keyPrefix: string, { tensors, statePrefix }: OpenedFile): string {
  const isThere = (prefix: string): boolean => prefix !== '' && tensors.some(({ name }) => name.startsWith(prefix));
  if (statePrefix === undefined || isThere(keyPrefix)) return keyPrefix;
  if (isThere(statePrefix)) return `${statePrefix}${keyPrefix}`;
  return keyPrefix.startsWith(statePrefix) ? keyPrefix.slice(statePrefix.length) : keyPrefix;
}

function ignoredInWords({ path, tensorCount }: IgnoredPart): string {
  return `${path}: ${tensorCount} ${tensorCount === 1 ? 'tensor' : 'tensors'}`;
}

/**
 * Safetensors of the whole encoder. Each tensor is read directly into its place, so that none is in memory twice. Batch
 * counts that an old file lacks are 0.
 */
async function storedFile(
  architecture: ImportedEncoder,
  found: ReadonlyMap<string, SourceTensor>,
  metadata: Readonly<Record<string, string>>,
): Promise<Uint8Array<ArrayBuffer>> {
  const plan = resnetTensorSpecs(architecture).map(({ name, shape, kind }): SafetensorsPlan => ({
    name,
    shape,
    dtype: kind === 'BATCH_COUNT' ? 'I64' : 'F32',
  }));
  const { file, places } = layOutSafetensors(plan, metadata);
  for (const { name, dtype } of plan) {
    const tensor = found.get(name);
    const place = places.get(name);
    if (tensor === undefined || place === undefined) continue;
    const numbers = await tensor.load(place);
    const data = dtype === 'I64' ? wholeNumbers(tensor.name, numbers) : toFloat32(numbers);
    if (data instanceof Float32Array && !areFinite(data))
      throw new DomainError({
        code: 'FORMAT_INVALID',
        message: `${name} contains numbers that are not finite as float32.`,
        hint: 'The training has diverged, or the file is damaged.',
      });
    if (data.buffer !== file.buffer) place.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  }
  return file;
}

/** Batch counts, read exactly from any type in the file. */
function wholeNumbers(name: string, numbers: TorchTensorData): BigInt64Array {
  if (numbers.dtype === 'I64') return numbers.data;
  // Half precision is raw bits until it is widened. All other types are checked in their own type, because float32
  // would round them.
  const values = numbers.dtype === 'F16' || numbers.dtype === 'BF16' ? toFloat32(numbers) : numbers.data;
  return BigInt64Array.from(values, (value) => {
    if (Number.isInteger(value)) return BigInt(value);
    throw new DomainError({
      code: 'FORMAT_INVALID',
      message: `${name} is ${value}, which is not a whole number.`,
      hint: 'Embeddings do not depend on this tensor. Set it to 0 and save the state dict again.',
    });
  });
}

/** A loop, because `every` would call a function for each of tens of millions of numbers. */
function areFinite(numbers: Float32Array): boolean {
  // A non-finite value times 0 is NaN, and NaN propagates through the sum.
  let sum = 0;
  for (let index = 0; index < numbers.length; index += 1) sum += (numbers[index] ?? 0) * 0;
  return sum === 0;
}

/** Translates a reader's error into an error of the registry; other errors are rethrown. */
function explained(error: unknown): unknown {
  if (error instanceof TorchCheckpointError) {
    const isUnknown = error.fault === 'NOT_A_CHECKPOINT';
    const hint = isUnknown
      ? 'Import a safetensors file or a PyTorch checkpoint.'
      : `Fault ${error.fault}. Nothing in the file was executed.`;
    return new DomainError({ code: 'FORMAT_INVALID', message: error.message, hint, cause: error });
  }
  if (error instanceof SafetensorsError)
    return new DomainError({
      code: 'FORMAT_INVALID',
      message: error.message,
      hint: `Fault ${error.fault} of the safetensors format.`,
      cause: error,
    });
  return error;
}

function refusal(refused: RefusedMapping, tensors: readonly MappableTensor[], fileName: string | null): DomainError {
  const { architecture, detectedArchitecture, reason } = refused;
  const prefixes = refused.prefixes
    .slice(0, 5)
    .map(({ prefix, tensorCount: count }) => `"${prefix.slice(0, MAX_TEXT)}" (${count} tensors)`)
    .join(', ');
  const keys = (message: string, hint: string): DomainError =>
    new DomainError({ code: 'CHECKPOINT_KEYS_MISMATCH', message, hint });
  const shard = shardInWords(refused, fileName);
  if (shard !== undefined)
    return keys(
      `The file is ${shard}; it contains ${tensors.length} of its tensors.`,
      'Merge the shards into one state dict, and import it.',
    );
  switch (reason) {
    case 'NO_ENCODER':
      return keys(
        `None of the file's ${tensors.length} tensors has a ResNet name: ${listed(refused.unexpected)}.`,
        tensors.some(({ name }) => name.includes('encoder.stages.'))
          ? 'These are names of Hugging Face transformers. Only ResNet-18, 34, 50 and 101 with the names of torchvision or timm can be imported.'
          : 'Only ResNet-18, 34, 50 and 101 with the names of torchvision can be imported.',
      );
    case 'PREFIX_UNKNOWN':
      return keys(
        `The encoder's tensor names begin with ${prefixes}, which is not a known prefix.`,
        'If this is the encoder, give the prefix as keyPrefix.',
      );
    case 'PREFIX_AMBIGUOUS':
      return keys(
        `The file contains more than one network: ${prefixes}.`,
        'Choose one by keyPrefix; the others are then left out.',
      );
    case 'ARCHITECTURE_DIFFERS':
      return new DomainError({
        code: 'CHECKPOINT_INCOMPATIBLE',
        message: `The file contains a ${detectedArchitecture ?? 'different encoder'}, not the stated ${architecture ?? 'one'}.`,
        field: 'input.encoder',
        hint: 'Leave encoder out, or give the architecture of the file.',
      });
    case 'MISMATCH': {
      const parts = (['missing', 'unexpected', 'mismatched'] as const).flatMap((kind) =>
        refused[kind].length === 0 ? [] : [`${refused[kind].length} ${kind} (${listed(refused[kind])})`],
      );
      const differences = parts.join(', ');
      const { network } = refused;
      if (network !== undefined && network.replace('-', '').toUpperCase() !== architecture)
        return keys(
          `The file contains ${network}, which cannot be imported: ${differences}.`,
          'Only ResNet-18, 34, 50 and 101 as built by torchvision can be imported.',
        );
      const quantised = tensors.some(({ name }) => name.includes('_packed_params'))
        ? ' Some of its layers are quantised, which is not supported.'
        : '';
      return keys(
        `The tensors do not form a ${architecture ?? 'ResNet'}: ${differences}.${quantised}`,
        prefixes === '' || refused.missing.length < resnetTensorSpecs(architecture ?? 'RESNET18').length / 2
          ? 'Nothing was imported. Every tensor of the encoder must exist under one prefix, and every other tensor under that prefix must be of a known kind.'
          : `Nothing was imported. The networks of the file begin with ${prefixes}: give one of these as keyPrefix.`,
      );
    }
  }
}

/** Detects one shard of a sharded state dict: its tensors are valid, but they are only a part of the network. */
function shardInWords(refused: RefusedMapping, fileName: string | null): string | undefined {
  const { missing, unexpected, mismatched } = refused;
  const [, number, count] = /-(\d{5})-of-(\d{5})\.\w+$/.exec(fileName ?? '') ?? [];
  if (number === undefined || count === undefined || Number(count) < 2) return undefined;
  const isPart = refused.reason === 'NO_ENCODER' || (missing.length > 0 && unexpected.length + mismatched.length === 0);
  return isPart ? `shard ${Number(number)} of ${Number(count)} of a checkpoint` : undefined;
}

function listed(names: readonly string[]): string {
  const some = names
    .slice(0, MAX_NAMES)
    .map((name) => cleanText(name))
    .join('; ');
  return names.length > MAX_NAMES ? `${some}; and ${names.length - MAX_NAMES} more` : some;
}

/** PostgreSQL accepts neither NUL nor a lone surrogate. */
function cleanText(text: string): string {
  return text.slice(0, MAX_TEXT).toWellFormed().replaceAll('\0', '\uFFFD');
}

function cleanScalar(value: TorchScalar['value']): string | number | boolean | null {
  if (typeof value === 'string') return cleanText(value);
  if (typeof value === 'bigint' || (typeof value === 'number' && !Number.isFinite(value)))
    return String(value).slice(0, MAX_TEXT);
  return value;
}
