/**
 * The memory that decoding may take without a reservation: that of a typical patch, for which a reservation would cost
 * too much.
 */
export const FREE_DECODING_BYTES = 16 * 1024 * 1024;
