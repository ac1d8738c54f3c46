/**
 * Turns a file of weights, whatever its format, into the one form that this registry stores: float32 safetensors under
 * the names of its ecosystem. The file is untrusted, so this runs in a separate process (encoder-file.program.ts) that
 * can be killed.
 */
import { createHash } from 'node:crypto';
import { fstat, read } from 'node:fs';
import { promisify } from 'node:util';
import { DomainError } from '../../errors.ts';
import { accessFile, type RandomAccess } from '../../formats/random-access.ts';
import { openForeignSafetensors, readSafetensors } from '../../formats/safetensors.ts';
import { tensorDigestOf } from '../../formats/tensor-digest.ts';
import { readTorchCheckpoint, type IgnoredPart, type TorchScalar } from '../../formats/torch-checkpoint/index.ts';
import { encoderFileMetadata } from '../../formats/encoder-file.ts';
import type { Architecture, NamedEncoder } from '../../formats/encoders/index.ts';
import { mapToEncoder } from '../../formats/encoders/mapping.ts';
import {
  checkUse,
  cleanText,
  explained,
  MAX_TEXT,
  otherNetwork,
  refusal,
  tooLarge,
  tooManyWeights,
} from './encoder-refusals.ts';
import type { ImportedContentsRecord } from './models.records.ts';
import { joinedTensor, storedEncoder, type SourceTensor } from './stored-encoder.ts';
import type { InputContract } from '../../protocol/checkpoint.ts';

export interface EncoderFileTask {
  /** The file's original name, if known. */
  readonly fileName: string | null;
  readonly expectedSha256: string | null;
  readonly expectedByteSize: number | null;
  /** The stated encoder; detected if absent. */
  readonly encoder: NamedEncoder | null;
  /** The name of the network that the file must contain, e.g. VIT_S16; null if any may be there. */
  readonly network: string | null;
  readonly keyPrefix: string | null;
  /** Facts of the network that its tensors do not tell, such as the number of attention heads. */
  readonly specification: Readonly<Record<string, unknown>> | null;
  /** The input contract, which is written into the stored file; null to learn what the file contains. */
  readonly inputContract: InputContract | null;
}

/** The facts that were read from a file of weights. */
export interface EncoderFacts {
  readonly architecture: Architecture;
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

interface OpenedFile {
  readonly format: ImportedContentsRecord['format'];
  readonly tensors: readonly SourceTensor[];
  /** For example `state_dict.`, if the file has such a part, even if the names of its tensors do not begin with it. */
  readonly statePrefix: string | undefined;
  readonly inertGlobals: readonly string[];
  readonly ignoredParts: readonly string[];
  readonly scalars: readonly TorchScalar[];
}

/** Several times the size of the largest Lightning checkpoints of a ResNet-101. */
const MAX_FILE_BYTES = 4 * 1024 ** 3;
const HASH_CHUNK_BYTES = 1024 * 1024;
/** Entries that are recorded of each list of a file's other contents: enough to identify it in a small row. */
const MAX_LISTED = 200;

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
  const checkedSha256 = task.expectedSha256 === null ? undefined : await sha256Of(fd, byteSize);
  if (checkedSha256 !== undefined) checkExpected('sha256', task.expectedSha256, checkedSha256);
  const source = accessFile(
    { read: (buffer, offset, length, position) => readAt(fd, buffer, offset, length, position) },
    byteSize,
  );
  const file = await openWeights(source).catch((error: unknown) => {
    throw explained(error);
  });

  const expectation = {
    ...(task.encoder === null ? {} : { encoder: task.encoder }),
    ...(task.keyPrefix === null ? {} : { prefix: prefixInFile(task.keyPrefix, file) }),
    ...(task.specification === null ? {} : { specification: task.specification }),
  };
  const mapped = mapToEncoder(file.tensors, expectation, joinedTensor);
  const network = mapped.outcome === 'REFUSED' ? mapped.detectedEncoder : mapped.description.name;
  if (task.network !== null && network !== undefined && network !== task.network)
    throw otherNetwork(network, task.network);
  if (mapped.outcome === 'REFUSED') throw refusal(mapped, file.tensors, task.fileName);
  const { description } = mapped;
  const { inputContract } = task;
  if (inputContract !== null) checkUse(description, inputContract);
  const storedBytes = description.tensors.reduce((sum, { shape }) => sum + storedSizeOf(shape), 0);
  if (storedBytes > MAX_FILE_BYTES) throw tooManyWeights(storedBytes, MAX_FILE_BYTES);
  const metadata = inputContract === null ? {} : encoderFileMetadata(description.architecture, inputContract);
  const bytes = await storedEncoder(description, mapped.tensors, metadata).catch((error: unknown) => {
    throw explained(error);
  });
  const sourceSha256 = checkedSha256 ?? (await sha256Of(fd, byteSize));
  const after = await statOf(fd, { bigint: true });
  if (after.mtimeNs !== before.mtimeNs || after.size !== before.size)
    throw new DomainError({
      code: 'FILE_CHANGED',
      message: 'The file changed while it was read.',
      hint: 'Import the file again when it is complete.',
      retryable: true,
    });
  const { prefix, projectionHead, classifier } = mapped;
  return {
    architecture: description.architecture,
    embeddingDim: description.embeddingDim(inputContract?.pooling ?? description.poolings[0] ?? 'AVGPOOL'),
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

/** Bytes of a float32 tensor; the few batch counts, which take twice as many, do not matter. */
function storedSizeOf(shape: readonly number[]): number {
  return shape.reduce((product, side) => product * side, 4);
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
  const { tensors, metadata } = await openForeignSafetensors(source);
  return {
    format: 'SAFETENSORS',
    tensors,
    statePrefix: undefined,
    inertGlobals: [],
    ignoredParts: [],
    scalars: Object.entries(metadata).map(([path, value]) => ({ path, value })),
  };
}

/**
 * Users give a prefix from the top level of the file (`state_dict.encoder.`) or within its state dict (`encoder.`). The
 * names of the tensors have one of these forms too, so `state_dict.` is added or removed to match them.
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

function cleanScalar(value: TorchScalar['value']): string | number | boolean | null {
  if (typeof value === 'string') return cleanText(value);
  if (typeof value === 'bigint' || (typeof value === 'number' && !Number.isFinite(value)))
    return String(value).slice(0, MAX_TEXT);
  return value;
}
