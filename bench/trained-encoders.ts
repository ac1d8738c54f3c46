/** The encoders whose training step is measured beside PyTorch's. */
export const TRAINED_ENCODERS = ['RESNET18', 'RESNET50', 'VIT_S16'] as const;
export type TrainedEncoder = (typeof TRAINED_ENCODERS)[number];
