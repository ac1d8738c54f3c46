/** From what went wrong to what a person reads: what caused it, a code, a sentence, what to do. */
import { DomainError, UnreachableCaseError, type ErrorCode } from '../src/errors.ts';
import type { RunFailureRecord } from '../src/modules/runs/index.ts';
import { ImageDataError } from './engine/data/errors.ts';

type FailureClass = RunFailureRecord['class'];

/** Codes of DomainErrors that are nobody's input: everything not listed is the user's to mend. */
const CLASS_OF_CODE: Partial<Record<ErrorCode, FailureClass>> = {
  IMPORT_NOTHING_READABLE: 'DATA',
  IMPORT_FOLDER_EMPTY: 'DATA',
  IMPORT_NEEDS_ANSWER: 'DATA',
  LABELS_CSV_INVALID: 'DATA',
  ARTIFACT_CORRUPT: 'INFRASTRUCTURE',
  ARTIFACT_NOT_FOUND: 'INFRASTRUCTURE',
  ENGINE_MISSING: 'INFRASTRUCTURE',
  CHILD_DIED: 'INFRASTRUCTURE',
  OUT_OF_MEMORY: 'OUT_OF_MEMORY',
  TIMED_OUT: 'TIMEOUT',
  NO_PROGRESS: 'TIMEOUT',
  DATABASE_UNREACHABLE: 'INFRASTRUCTURE',
  STORAGE_FULL: 'INFRASTRUCTURE',
  INTERNAL: 'INTERNAL',
};

/** Unexpected errors keep their words out of the API: the worker's log holds them whole. */
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
  if (isOutOfMemory(error)) {
    return {
      class: 'OUT_OF_MEMORY',
      code: 'OUT_OF_MEMORY',
      message: 'The run needed more memory than there was.',
      hint: 'Take a smaller batchSize or imageSizePx.',
    };
  }
  if (isSystemFault(error)) {
    return {
      class: 'INFRASTRUCTURE',
      code: error.code,
      message: `The machine answered ${error.code}.`,
      hint: 'Look at disk space and file rights, then launch or resume again.',
    };
  }
  return {
    class: 'INTERNAL',
    code: 'INTERNAL',
    message: 'Something went wrong inside Paraffin.',
    hint: 'The worker log holds the details under the run id.',
  };
}

/** A sealed version that cannot be read back was damaged after it was sealed; options are the launch's. */
function failureOfImages(error: ImageDataError): RunFailureRecord {
  switch (error.code) {
    case 'TOO_FEW_IMAGES':
      return {
        class: 'USER',
        code: 'DATASET_TOO_SMALL',
        message: error.message,
        hint: 'Take a smaller batchSize, or add datasets.',
      };
    case 'BAD_OPTION':
      return { class: 'USER', code: 'BAD_INPUT', message: error.message, hint: 'Change that option and launch again.' };
    case 'READER_CLOSED':
    case 'READER_DIED':
      return {
        class: 'INTERNAL',
        code: 'INTERNAL',
        message: 'Reading the images broke off.',
        hint: 'The worker log holds the details under the run id.',
      };
    case 'SHARD_UNREADABLE':
    case 'SHARD_TRUNCATED':
    case 'SHARD_CORRUPT':
    case 'MANIFEST_INVALID':
    case 'IMAGE_COUNT_MISMATCH':
    case 'IMAGE_MISSING':
    case 'IMAGE_DUPLICATE':
    case 'IMAGE_UNREADABLE':
      return {
        class: 'INFRASTRUCTURE',
        code: 'ARTIFACT_CORRUPT',
        message: error.message,
        hint: 'Restore the artifact store from a backup, or import the dataset again.',
      };
    default:
      throw new UnreachableCaseError(error.code);
  }
}

const NO_MEMORY =
  /OOM when allocating|RESOURCE_EXHAUSTED|Cannot allocate memory|bad_alloc|Array buffer allocation failed|JavaScript heap out of memory|CUDA_ERROR_OUT_OF_MEMORY/i;

function isOutOfMemory(error: unknown): boolean {
  return error instanceof Error && NO_MEMORY.test(error.message);
}

export const RAN_TOO_LONG: RunFailureRecord = {
  class: 'TIMEOUT',
  code: 'TIMED_OUT',
  message: 'The run was under way for longer than its maxDurationSeconds.',
  hint: 'Call resumeRun to give it as long again, or launch with more.',
};

export const GOT_STUCK: RunFailureRecord = {
  class: 'TIMEOUT',
  code: 'NO_PROGRESS',
  message: 'The process of the run got on with nothing for too long and was ended.',
  hint: 'Look into the worker log under the run id; PARAFFIN_STUCK_AFTER_SECONDS says how long is too long.',
};

/** What a child says last that could not reach the database; the agent, which waits for it, writes the outcome. */
export const DATABASE_UNREACHABLE = 'DATABASE_UNREACHABLE';

/** How a process ended that did not write its run's outcome itself. */
export interface SilentEnd {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  /** The end of what it wrote. */
  readonly lastWords: string;
  /** Whether the kernel ended a process because memory ran out meanwhile; undefined where it does not say. */
  readonly kernelWasOutOfMemory: boolean | undefined;
}

/** The class by a child's exit and its last words. */
export function failureOfEnd(end: SilentEnd): RunFailureRecord {
  const inWords = end.signal ?? `exit code ${end.code ?? 'unknown'}`;
  // Linux ends the largest process with SIGKILL when memory is gone. Somebody else's SIGKILL does not mean that memory
  // ran out.
  if (NO_MEMORY.test(end.lastWords) || (end.signal === 'SIGKILL' && end.kernelWasOutOfMemory !== false)) {
    return {
      class: 'OUT_OF_MEMORY',
      code: 'OUT_OF_MEMORY',
      message: `The process ended because memory ran out (${inWords}).`,
      hint: 'Take a smaller batchSize or imageSizePx.',
    };
  }
  if (end.lastWords.includes(DATABASE_UNREACHABLE)) {
    return {
      class: 'INFRASTRUCTURE',
      code: DATABASE_UNREACHABLE,
      message: 'The database did not answer.',
      hint: 'Look at PostgreSQL, then call resumeRun.',
    };
  }
  return {
    class: 'INFRASTRUCTURE',
    code: 'CHILD_DIED',
    message: `The process ended without a word (${inWords}).`,
    hint: 'Look into the worker log under the run id, then call resumeRun.',
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

/** True for a connection that was refused or broke, not for a statement that was wrong. */
export function isDatabaseFault(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  const code = 'code' in error && typeof error.code === 'string' ? error.code : '';
  if (/^(P1\d{3}|P2024|P2028|P2037|57P0\d|08\w{3}|ECONNREFUSED|ECONNRESET|EPIPE|ETIMEDOUT)$/.test(code)) return true;
  return (
    /Connection terminated|terminating connection|server closed the connection|the database system is (starting up|shutting down|in recovery)|Can't reach database server|ECONNREFUSED|ECONNRESET/i.test(
      error.message,
    ) || isDatabaseFault(error.cause)
  );
}
