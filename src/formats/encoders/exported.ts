/**
 * What a saved training state puts before the names of the encoder that is to be registered, where that is not the one
 * that is trained: a momentum encoder, for example.
 */
export const EXPORTED_ENCODER = 'exported.';
