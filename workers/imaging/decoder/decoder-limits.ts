/** What decoding may take without asking for room: that of a common patch, for which asking would cost too much. */
export const FREE_DECODING_BYTES = 16 * 1024 * 1024;
