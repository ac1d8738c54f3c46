/** Expected failures that users meet: a stable code, one sentence, the field, and what to do next. */

/** Every code that Paraffin answers with. Clients may rely on them: add, never rename. */
export const ERROR_CODES = [
  'BAD_INPUT',
  'NOT_FOUND',
  'CONFLICT',
  'UNAUTHENTICATED',
  'FORBIDDEN',
  'DATASET_NOT_FOUND',
  'DATASET_VERSION_NOT_FOUND',
  'DATASET_VERSION_NOT_SEALED',
  'SLIDE_UNAVAILABLE',
  'DATASET_TOO_SMALL',
  'BUDGET_TOO_SMALL',
  'PROBE_UNLABELLED',
  'PROBE_TOO_SMALL',
  'SLUG_TAKEN',
  'MODEL_NOT_FOUND',
  'CHECKPOINT_NOT_FOUND',
  'CHECKPOINT_NOT_DOWNLOADABLE',
  'CHECKPOINT_INCOMPATIBLE',
  'CHECKPOINT_KEYS_MISMATCH',
  'RUN_NOT_FOUND',
  'RUN_NOT_RESUMABLE',
  'RUN_NOT_CANCELABLE',
  'TRAINING_STATE_NOT_FOUND',
  'LEASE_LOST',
  'OUTCOME_INVALID',
  'REPORT_OUT_OF_ORDER',
  'WORKER_INCOMPATIBLE',
  'REGISTRY_UNREACHABLE',
  'EVALUATION_NOT_FOUND',
  'EMBEDDINGS_NOT_FOUND',
  'EVALUATIONS_NOT_COMPARABLE',
  'TOO_FEW_LABELS',
  'LABELS_NOT_NUMERIC',
  'TOO_FEW_IMAGES',
  'TOO_FEW_GROUPS',
  'IMPORT_PATH_NOT_ALLOWED',
  'IMPORT_PATH_NOT_FOUND',
  'IMPORT_PATH_NOT_FOLDER',
  'IMPORT_FOLDER_EMPTY',
  'IMPORT_NOTHING_READABLE',
  'IMPORT_NEEDS_ANSWER',
  'LABELS_CSV_INVALID',
  'IDEMPOTENCY_KEY_REUSED',
  'CURSOR_INVALID',
  'FORMAT_NOT_AVAILABLE',
  'EXPORT_CHECK_FAILED',
  'EXPORT_FAILED',
  'EXPORT_PENDING',
  'WORKER_MISSING',
  'FORMAT_INVALID',
  'DIGEST_MISMATCH',
  'FILE_TOO_LARGE',
  'UPLOAD_NOT_FOUND',
  'UPLOAD_INCOMPLETE',
  'TOO_MANY_UPLOADS',
  'STORAGE_FULL',
  'FILE_CHANGED',
  'REMOTE_URL_NOT_ALLOWED',
  'REMOTE_UNREACHABLE',
  'REMOTE_REFUSED',
  'REMOTE_BROKEN_OFF',
  'ARTIFACT_NOT_FOUND',
  'ARTIFACT_CORRUPT',
  'STORE_UNREACHABLE',
  'STORE_BUCKET_NOT_FOUND',
  'STORE_REGION_MISMATCH',
  'STORE_ACCESS_DENIED',
  'STORE_CREDENTIALS_INVALID',
  'STORE_CREDENTIALS_EXPIRED',
  'STORE_CLOCK_SKEWED',
  'STORE_INCOMPATIBLE',
  'PRECONDITION_FAILED',
  'RANGE_NOT_SATISFIABLE',
  'ENGINE_MISSING',
  'GPU_UNREACHABLE',
  'TRAINING_DIVERGED',
  'PRECISION_UNSUPPORTED',
  'OUT_OF_MEMORY',
  'TIMED_OUT',
  'NO_PROGRESS',
  'DATABASE_UNREACHABLE',
  'RATE_LIMITED',
  'ORIGIN_NOT_ALLOWED',
  'OVERLOADED',
  'CHILD_DIED',
  'WORKER_SILENT',
  'NOT_AVAILABLE',
  'INTERNAL',
] as const;

export type ErrorCode = (typeof ERROR_CODES)[number];

export interface DomainErrorFacts {
  readonly code: ErrorCode;
  /** One sentence for the user. */
  readonly message: string;
  /** The invalid input field, as a dotted path (`input.batchSize`). */
  readonly field?: string;
  /** What to do next. */
  readonly hint?: string;
  /** True when the same request may succeed later without a change. */
  readonly retryable?: boolean;
  /** When to retry, if known; sent over HTTP as Retry-After. */
  readonly retryAfterSeconds?: number;
  readonly cause?: unknown;
}

export class DomainError extends Error {
  readonly code: ErrorCode;
  readonly field: string | undefined;
  readonly hint: string | undefined;
  readonly retryable: boolean;
  readonly retryAfterSeconds: number | undefined;

  constructor(facts: DomainErrorFacts) {
    super(facts.message, facts.cause === undefined ? undefined : { cause: facts.cause });
    this.name = 'DomainError';
    this.code = facts.code;
    this.field = facts.field;
    this.hint = facts.hint;
    this.retryable = facts.retryable ?? false;
    this.retryAfterSeconds = facts.retryAfterSeconds;
  }
}

/** For the default branch of an exhaustive switch: the compiler refuses it while a case is missing. */
export class UnreachableCaseError extends Error {
  constructor(value: never) {
    super(`Unreachable case: ${JSON.stringify(value)}`);
    this.name = 'UnreachableCaseError';
  }
}
