/** Reasons why a probe cannot be run. */

export type ProbeErrorCode =
  | 'TOO_FEW_LABELS'
  | 'TOO_FEW_IMAGES'
  | 'TOO_FEW_GROUPS'
  | 'SPLIT_INVALID'
  | 'BAD_OPTION'
  | 'EMBEDDING_NOT_FINITE'
  | 'TRAINING_DIVERGED';

export class ProbeError extends Error {
  readonly code: ProbeErrorCode;
  /** The input field at fault. */
  readonly field: string;

  constructor(code: ProbeErrorCode, field: string, message: string) {
    super(message);
    this.name = 'ProbeError';
    this.code = code;
    this.field = field;
  }
}
