/** The faults of a file that is not a readable checkpoint. */
export const TORCH_CHECKPOINT_FAULTS = [
  // The file
  'FILE_TOO_LARGE',
  'READ_SHORT',
  'NOT_A_CHECKPOINT',
  'TAR_UNSUPPORTED',
  'TORCHSCRIPT_UNSUPPORTED',
  'VERSION_UNSUPPORTED',
  'BIG_ENDIAN',
  'BYTE_ORDER_INVALID',
  'TRAILING_BYTES',
  // The zip
  'ZIP_END_MISSING',
  'ZIP_INVALID',
  'TOO_MANY_ENTRIES',
  'ENTRY_NAME_INVALID',
  'ENTRY_DUPLICATE',
  'ENTRY_OUTSIDE_ARCHIVE',
  'ENTRY_ENCRYPTED',
  'ENTRY_COMPRESSED',
  'ENTRY_SIZES_DIFFER',
  'ENTRY_HEADERS_DIFFER',
  'ENTRY_OUT_OF_RANGE',
  'ENTRY_OVERLAP',
  'ENTRY_MISSING',
  'ENTRY_TOO_LARGE',
  'ENTRY_CORRUPT',
  // The pickle
  'PICKLE_TOO_LARGE',
  'PICKLE_TRUNCATED',
  'PROTOCOL_UNSUPPORTED',
  'OPCODE_UNKNOWN',
  'OPCODE_UNSUPPORTED',
  'TOO_MANY_STEPS',
  'NESTING_TOO_DEEP',
  'STACK_UNDERFLOW',
  'STACK_LEFTOVER',
  'MARK_MISSING',
  'MEMO_MISSING',
  'MEMO_TOO_LARGE',
  'TEXT_TOO_LONG',
  'TEXT_INVALID',
  'NUMBER_INVALID',
  'NUMBER_TOO_LONG',
  'OPERAND_INVALID',
  'PERSISTENT_ID_INVALID',
  // The tensors
  'STORAGE_CONFLICT',
  'STORAGE_MISSING',
  'STORAGE_UNKNOWN',
  'STORAGE_SIZE_MISMATCH',
  'TENSOR_INVALID',
  'VIEW_OUT_OF_RANGE',
  'TENSOR_TOO_LARGE',
  'TENSORS_EXCEED_FILE',
  'TOO_MANY_TENSORS',
  'NAME_TOO_LONG',
  'DUPLICATE_NAME',
  'NO_TENSORS',
] as const;

export type TorchCheckpointFault = (typeof TORCH_CHECKPOINT_FAULTS)[number];

export class TorchCheckpointError extends Error {
  readonly fault: TorchCheckpointFault;
  /** The location in the file: an entry of the zip, a byte of a pickle, the path of a tensor. */
  readonly place: string;

  constructor(fault: TorchCheckpointFault, place: string, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'TorchCheckpointError';
    this.fault = fault;
    this.place = place;
  }
}

/** Text from the file for an error message: quoted and truncated. */
export function quoted(text: string): string {
  return JSON.stringify(text.length > 80 ? `${text.slice(0, 80)}...` : text);
}
