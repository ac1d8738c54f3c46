/** Shares of an evaluation's time, for an honest progress bar. */
export const EMBEDDING_SHARE = 0.6;
export const DECODING_SHARE = 0.05;
/** The search for test images among those of the pretraining takes the rest. */
export const LEAKAGE_FROM = 0.95;
