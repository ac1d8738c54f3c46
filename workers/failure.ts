/** Turns an error into what the user reads: the cause, a code, a sentence, and what to do. */
import { ManifestError } from '../src/formats/manifest/index.ts';
import { DomainError, UnreachableCaseError, type ErrorCode } from '../src/errors.ts';
import { ImageDataError } from './engine/data/errors.ts';
import type { RunFailureRecord } from '../src/protocol/runs.ts';

type FailureClass = RunFailureRecord['class'];

/** Codes of DomainErrors that the user's input did not cause; all others are the user's to correct. */
const CLASS_OF_CODE: Partial<Record<ErrorCode, FailureClass>> = {
  IMPORT_NOTHING_READABLE: 'DATA',
  IMPORT_FOLDER_EMPTY: 'DATA',
  IMPORT_NEEDS_ANSWER: 'DATA',
  LABELS_CSV_INVALID: 'DATA',
  ARTIFACT_CORRUPT: 'INFRASTRUCTURE',
  ARTIFACT_NOT_FOUND: 'INFRASTRUCTURE',
  STORE_UNREACHABLE: 'INFRASTRUCTURE',
  STORE_BUCKET_NOT_FOUND: 'INFRASTRUCTURE',
  STORE_REGION_MISMATCH: 'INFRASTRUCTURE',
  STORE_ACCESS_DENIED: 'INFRASTRUCTURE',
  STORE_CREDENTIALS_INVALID: 'INFRASTRUCTURE',
  STORE_CREDENTIALS_EXPIRED: 'INFRASTRUCTURE',
  STORE_CLOCK_SKEWED: 'INFRASTRUCTURE',
  STORE_INCOMPATIBLE: 'INFRASTRUCTURE',
  ENGINE_MISSING: 'INFRASTRUCTURE',
  GPU_UNREACHABLE: 'INFRASTRUCTURE',
  CHILD_DIED: 'INFRASTRUCTURE',
  OUT_OF_MEMORY: 'OUT_OF_MEMORY',
  TIMED_OUT: 'TIMEOUT',
  NO_PROGRESS: 'TIMEOUT',
  DATABASE_UNREACHABLE: 'INFRASTRUCTURE',
  REGISTRY_UNREACHABLE: 'INFRASTRUCTURE',
  OUTCOME_INVALID: 'INTERNAL',
  REPORT_OUT_OF_ORDER: 'INTERNAL',
  STORAGE_FULL: 'INFRASTRUCTURE',
  INTERNAL: 'INTERNAL',
};

const RESTORE_OR_IMPORT = 'Restore the artifact store from a backup, or import the dataset again.';

/** The messages of unexpected errors stay out of the API; the worker's log has them in full. */
export function failureOf(error: unknown): RunFailureRecord {
  if (error instanceof DomainError) {
    return {
      class: CLASS_OF_CODE[error.code] ?? 'USER',
      code: error.code,
      message: error.message,
      hint: error.hint ?? null,
    };
  }
  if (error instanceof ImageDataError) return failureOfImages(error);
  if (error instanceof ManifestError)
    return { class: 'DATA', code: error.code, message: error.message, hint: RESTORE_OR_IMPORT };
  if (isOutOfMemory(error)) {
    return {
      class: 'OUT_OF_MEMORY',
      code: 'OUT_OF_MEMORY',
      message: 'The run needed more memory than was available.',
      hint: 'Use a smaller batchSize or imageSizePx.',
    };
  }
  if (isSystemFault(error)) {
    return {
      class: 'INFRASTRUCTURE',
      code: error.code,
      message: `The operating system reported ${error.code}.`,
      hint: 'Check the free disk space and the file permissions, then launch or resume again.',
    };
  }
  return {
    class: 'INTERNAL',
    code: 'INTERNAL',
    message: 'Something went wrong inside Paraffin.',
    hint: 'Search the worker log for the run id: it has the details.',
  };
}

/** A sealed version that cannot be read was damaged after it was sealed; options are those of the launch. */
function failureOfImages(error: ImageDataError): RunFailureRecord {
  switch (error.code) {
    case 'TOO_FEW_IMAGES':
      return {
        class: 'USER',
        code: 'DATASET_TOO_SMALL',
        message: error.message,
        hint: 'Use a smaller batchSize, or add datasets.',
      };
    case 'BAD_OPTION':
      return { class: 'USER', code: 'BAD_INPUT', message: error.message, hint: 'Change that option and launch again.' };
    case 'READER_CLOSED':
    case 'READER_DIED':
      return {
        class: 'INTERNAL',
        code: 'INTERNAL',
        message: 'The images could not be read to the end.',
        hint: 'Search the worker log for the run id: it has the details.',
      };
    case 'SHARD_UNREADABLE':
    case 'SHARD_TRUNCATED':
    case 'MANIFEST_INVALID':
    case 'IMAGE_COUNT_MISMATCH':
    case 'IMAGE_MISSING':
    case 'IMAGE_UNREADABLE':
      return {
        class: 'INFRASTRUCTURE',
        code: 'ARTIFACT_CORRUPT',
        message: error.message,
        hint: RESTORE_OR_IMPORT,
      };
    default:
      throw new UnreachableCaseError(error.code);
  }
}

/** The last five are those of a GPU: an output, a copy from the host, and the workspaces of NVIDIA's libraries. */
const NO_MEMORY =
  /OOM when allocating|RESOURCE_EXHAUSTED|Cannot allocate memory|bad_alloc|Array buffer allocation failed|JavaScript heap out of memory|CUDA_ERROR_OUT_OF_MEMORY|failed to allocate memory|Dst tensor is not initialized|(?:CUDNN|CUBLAS)_STATUS_ALLOC_FAILED/i;

function isOutOfMemory(error: unknown): boolean {
  return error instanceof Error && NO_MEMORY.test(error.message);
}

export const TIMED_OUT_RUN: RunFailureRecord = {
  class: 'TIMEOUT',
  code: 'TIMED_OUT',
  message: 'The run took longer than its maxDurationSeconds.',
  hint: 'Call resumeRun to grant the same time again, or launch with a larger maxDurationSeconds.',
};

export const STUCK: RunFailureRecord = {
  class: 'TIMEOUT',
  code: 'NO_PROGRESS',
  message: 'The process of the run made no progress for too long and was ended.',
  hint: 'Search the worker log for the run id; PARAFFIN_STUCK_AFTER_SECONDS sets the limit.',
};

/** How a process ended that did not write its run's outcome. */
export interface UnreportedEnd {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  /** The end of its output. */
  readonly stderrTail: string;
  /** Whether the kernel killed a process meanwhile because memory ran out; undefined if the kernel does not say. */
  readonly kernelWasOutOfMemory: boolean | undefined;
}

/** Classifies the failure by a child's exit status and its last output. */
export function failureOfEnd(end: UnreportedEnd): RunFailureRecord {
  const ended = end.signal ?? `exit code ${end.code ?? 'unknown'}`;
  // If memory runs out, Linux kills the largest process with SIGKILL. But a SIGKILL may also come from another process.
  if (NO_MEMORY.test(end.stderrTail) || (end.signal === 'SIGKILL' && end.kernelWasOutOfMemory !== false)) {
    return {
      class: 'OUT_OF_MEMORY',
      code: 'OUT_OF_MEMORY',
      message: `The process ended because memory ran out (${ended}).`,
      hint: 'Use a smaller batchSize or imageSizePx.',
    };
  }
  return {
    class: 'INFRASTRUCTURE',
    code: 'CHILD_DIED',
    message: `The process ended without an error message (${ended}).`,
    hint: 'Search the worker log for the run id, then call resumeRun.',
  };
}

function isSystemFault(error: unknown): error is Error & { code: string } {
  return (
    error instanceof Error &&
    'code' in error &&
    typeof error.code === 'string' &&
    ['ENOSPC', 'EFBIG', 'EACCES', 'EIO', 'EROFS', 'EMFILE', 'EDQUOT'].includes(error.code)
  );
}
