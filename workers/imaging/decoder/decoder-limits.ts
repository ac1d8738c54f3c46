/** The first file that a decoder inherits as an open descriptor, after standard streams and the pipe for its end. */
export const FIRST_FILE = 4;

/**
 * The memory that decoding may take without a reservation: that of a typical patch, for which a reservation would cost
 * too much.
 */
export const FREE_DECODING_BYTES = 16 * 1024 * 1024;

/** The file through which an import passes a source file of up to this size to a decoder. */
export const SHARED_FILE_BYTES = 1024 * 1024;
