/**
 * Turns a file of weights, whatever its format, into the one form that this registry stores: safetensors under the
 * names of its ecosystem. The file is untrusted, so this runs in a separate process (encoder-file.program.ts) that can
 * be killed.
 */
import { createHash } from 'node:crypto';
import { fstat, read } from 'node:fs';
import { isDeepStrictEqual, promisify } from 'node:util';
import { DomainError } from '../../errors.ts';
import { accessFile, type RandomAccess } from '../../formats/random-access.ts';
import { mergedShards } from '../../formats/sharded-safetensors.ts';
import { openForeignSafetensors } from '../../formats/safetensors.ts';
import { readTorchCheckpoint, type IgnoredPart, type TorchScalar } from '../../formats/torch-checkpoint/index.ts';
import { encoderFileMetadata } from '../../formats/encoder-file.ts';
import type { Architecture, NamedEncoder, WeightsDtype } from '../../formats/encoders/index.ts';
import { mapToEncoder } from '../../formats/encoders/mapping.ts';
import { checkUse, cleanText, explained, MAX_TEXT, otherNetwork, refusal } from './encoder-refusals.ts';
import type { ImportedContentsRecord } from './models.records.ts';
import { joinedTensor, storeEncoder, weightsDtypeOf, type SourceTensor, type WeightsSink } from './stored-encoder.ts';
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
  /** The least precise dtype of the weights; it is part of the input contract in the stored file. */
  readonly weightsDtype: WeightsDtype;
  /** sha256 of the original file; of one in shards, of the one file that holds the same (`mergedShards`). */
  readonly sourceSha256: string;
  readonly sourceByteSize: number;
  /** Digest of the encoder's tensors, computed by `tensorDigestOf`. */
  readonly tensorDigest: string;
  readonly contents: ImportedContentsRecord;
}

export interface EncoderFile extends EncoderFacts {
  /** Size of the safetensors; 0 if the file was only looked at. */
  readonly byteSize: number;
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
 * @param fds one open regular file, or the shards of one safetensors file in their order; the caller closes them.
 * @param sink receives the safetensors: the same weights with the same contract give the same bytes, independent of the
 * original file. Nothing is written without an input contract.
 * @throws DomainError DIGEST_MISMATCH, FORMAT_INVALID, CHECKPOINT_KEYS_MISMATCH (with the keys),
 * CHECKPOINT_INCOMPATIBLE (another encoder than stated), FILE_CHANGED (while it was read).
 */
export async function readEncoderFile(
  fds: readonly number[],
  task: EncoderFileTask,
  sink: WeightsSink,
): Promise<EncoderFile> {
  const before = await stateOf(fds);
  const files = fds.map((fd, index) =>
    accessFile(
      { read: (buffer, offset, length, position) => readAt(fd, buffer, offset, length, position) },
      Number(before[index]?.size ?? 0),
    ),
  );
  const source = await sourceOf(files).catch((error: unknown) => {
    throw explained(error);
  });
  const { byteSize } = source;
  checkExpected('size', task.expectedByteSize === null ? null : `${task.expectedByteSize} bytes`, `${byteSize} bytes`);
  // The whole file is hashed before parsing only if a sha256 is expected, because hashing gigabytes takes long.
  const checkedSha256 = task.expectedSha256 === null ? undefined : await sha256Of(source);
  if (checkedSha256 !== undefined) checkExpected('sha256', task.expectedSha256, checkedSha256);
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
  const weightsDtype = weightsDtypeOf(description, mapped.tensors);
  const metadata =
    inputContract === null ? {} : encoderFileMetadata(description.architecture, { ...inputContract, weightsDtype });
  const stored = await storeEncoder(
    description,
    mapped.tensors,
    metadata,
    inputContract === null ? NOWHERE : sink,
  ).catch((error: unknown) => {
    throw explained(error);
  });
  const sourceSha256 = checkedSha256 ?? (await sha256Of(source));
  if (!isDeepStrictEqual(await stateOf(fds), before))
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
    weightsDtype,
    sourceSha256,
    sourceByteSize: byteSize,
    tensorDigest: stored.tensorDigest,
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
    byteSize: inputContract === null ? 0 : stored.byteSize,
  };
}

const NOWHERE: WeightsSink = { begin: () => undefined, write: () => undefined };

/** Size and time of change of each file. */
async function stateOf(
  fds: readonly number[],
): Promise<readonly { readonly size: bigint; readonly mtimeNs: bigint }[]> {
  return Promise.all(
    fds.map(async (fd) => {
      const { size, mtimeNs } = await statOf(fd, { bigint: true });
      return { size, mtimeNs };
    }),
  );
}

/** One file as it is, or several shards as the one file that they are parts of. */
async function sourceOf(files: readonly RandomAccess[]): Promise<RandomAccess> {
  const [only, second] = files;
  if (only === undefined) throw new RangeError('There is no file to read.');
  return second === undefined ? only : mergedShards(files);
}

async function sha256Of(source: RandomAccess): Promise<string> {
  const hash = createHash('sha256');
  const buffer = new Uint8Array(HASH_CHUNK_BYTES);
  for (let position = 0; position < source.byteSize;) {
    const length = Math.min(buffer.length, source.byteSize - position);
    const bytes = await source.read(position, length, buffer.subarray(0, length));
    if (bytes.length === 0) break;
    hash.update(bytes);
    position += bytes.length;
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
