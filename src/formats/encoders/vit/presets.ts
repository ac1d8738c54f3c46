/** The vision transformers that a training starts from new weights, as timm builds `vit_*_patch16_224`. */
import type { VitSpecification } from './specification.ts';

export const VIT_PRESET_NAMES = ['VIT_TI16', 'VIT_S16', 'VIT_B16'] as const;
export type VitPresetName = (typeof VIT_PRESET_NAMES)[number];

/**
 * Touvron et al. 2021 (DeiT, arXiv:2012.12877), table 1: heads are 64 features wide, and an MLP four times as wide as
 * the tokens. Position embeddings belong to images of 224 px and are resampled for others, as DINO does.
 */
const preset = (width: number): VitSpecification => ({
  patchSizePx: 16,
  width,
  depth: 12,
  headCount: width / 64,
  mlpWidth: 4 * width,
  mlp: 'GELU',
  hasClassToken: true,
  registerCount: 0,
  positions: 'ALL',
  gridSize: 14,
  hasPatchBias: true,
  hasQkvBias: true,
  hasLayerScale: false,
  hasPreNorm: false,
  blockNorm: 'PRE',
  finalNorm: 'BEFORE_POOLING',
  normEpsilon: 1e-6,
  positionResampling: 'ANTIALIASED',
});

/** Parameters: 5.5, 21.7 and 85.8 million. */
export const VIT_PRESETS: Readonly<Record<VitPresetName, VitSpecification>> = {
  VIT_TI16: preset(192),
  VIT_S16: preset(384),
  VIT_B16: preset(768),
};
