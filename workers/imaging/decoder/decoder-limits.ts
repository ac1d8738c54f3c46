/** The first file that a decoder inherits as an open descriptor, after standard streams and the pipe for its end. */
export const FIRST_FILE = 4;

/**
 * The memory that decoding may take without a reservation: that of a typical patch, for which a reservation would cost
 * too much.
 */
export const FREE_DECODING_BYTES = 16 * 1024 * 1024;

/** A decoder has its next request while it works on one, so that it never waits for a turn of the import's process. */
export const REQUESTS_PER_DECODER = 2;

/** A source file of up to this size passes to a decoder through memory that both share. */
export const SHARED_BYTES_MAX = 1024 * 1024;
