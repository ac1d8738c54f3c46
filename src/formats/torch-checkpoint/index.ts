/**
 * Reads PyTorch checkpoints without executing them: plain state dicts, `{ state_dict }` and Lightning's, in the zip
 * format and the legacy format. Nothing in the file is imported, called or evaluated; everything other than tensors,
 * containers and numbers becomes an inert, listed placeholder.
 */
import type { RandomAccess } from '../random-access.ts';
import { foreignFileInWords } from '../foreign-file.ts';
import { openArchive } from './archive.ts';
import { contentsOf } from './contents.ts';
import type { CheckpointContents } from './contents.ts';
import { TorchCheckpointError } from './fault.ts';
import { openLegacy } from './legacy.ts';
import { DEFAULT_TORCH_CHECKPOINT_LIMITS } from './limits.ts';
import type { TorchCheckpointLimits } from './limits.ts';
import type { OpenedCheckpoint } from './opened.ts';
import { readExactly } from './read.ts';
import type { InertGlobal } from './torch-host.ts';

export { toFloat32 } from './dtype.ts';
export type { TorchDtype, TorchTensorData } from './dtype.ts';
export type { IgnoredPart, TorchScalar, TorchTensor } from './contents.ts';
export { TORCH_CHECKPOINT_FAULTS, TorchCheckpointError } from './fault.ts';
export type { TorchCheckpointFault } from './fault.ts';
export { DEFAULT_TORCH_CHECKPOINT_LIMITS } from './limits.ts';
export type { TorchCheckpointLimits } from './limits.ts';
export type { InertGlobal } from './torch-host.ts';

export interface TorchCheckpoint extends CheckpointContents {
  readonly format: 'ZIP' | 'LEGACY';
  /**
   * Classes and functions that the file references and that were left inert; Python would have imported and called
   * them.
   */
  readonly placeholders: readonly InertGlobal[];
}

const SNIFF_BYTES = 262;
const LOCAL_HEADER = [0x50, 0x4b, 0x03, 0x04];
/**
 * First bytes of the magic number's pickle: protocol 1 and later begin with PROTO (or the long itself), protocol 0 with
 * a line of digits.
 */
const PICKLE_BEGINNINGS: readonly (number | undefined)[] = [0x80, 0x8a, 0x4c];

/**
 * Reads the structure of the file; the values of a tensor are read on request, and the source must stay open until
 * then.
 * @throws TorchCheckpointError with the first fault; see `TorchCheckpointFault`.
 */
export async function readTorchCheckpoint(
  source: RandomAccess,
  limits: TorchCheckpointLimits = DEFAULT_TORCH_CHECKPOINT_LIMITS,
): Promise<TorchCheckpoint> {
  if (source.byteSize > limits.maxFileBytes)
    throw new TorchCheckpointError(
      'FILE_TOO_LARGE',
      'file',
      `The file has ${source.byteSize} bytes; at most ${limits.maxFileBytes} are read.`,
    );
  const opened = await open(source, limits);
  return { format: opened.format, ...contentsOf(opened, source, limits), placeholders: opened.inertGlobals };
}

async function open(source: RandomAccess, limits: TorchCheckpointLimits): Promise<OpenedCheckpoint> {
  const beginning = await readExactly(source, 0, Math.min(source.byteSize, SNIFF_BYTES), 'file');
  if (LOCAL_HEADER.every((byte, index) => beginning[index] === byte)) return openArchive(source, limits);
  if (Buffer.from(beginning.subarray(257)).toString('latin1') === 'ustar') {
    throw new TorchCheckpointError(
      'TAR_UNSUPPORTED',
      'file',
      'The file is a tar, as PyTorch wrote before 0.2: load and save it again with a later one.',
    );
  }
  if (!PICKLE_BEGINNINGS.includes(beginning[0]))
    throw new TorchCheckpointError(
      'NOT_A_CHECKPOINT',
      'file',
      `The file is ${foreignFileInWords(beginning) ?? 'neither a zip nor a pickle'}, not a checkpoint of PyTorch.`,
    );
  return openLegacy(source, limits);
}
