/** The encoders whose embedding is measured beside ONNX Runtime's. */
export const EMBEDDING_ENCODERS = ['RESNET18', 'RESNET50', 'VIT_S16', 'VIT_B16'] as const;
export type EmbeddingEncoder = (typeof EMBEDDING_ENCODERS)[number];
