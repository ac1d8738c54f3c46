/** The pretraining methods by name. To add one: write its folder, and a line in both places below. */
import { barlowTwins, type BarlowTwinsConfig } from './barlow-twins/index.ts';
import type { Method, MethodSetting } from './method.ts';
import { simclr, type SimclrConfig } from './simclr/index.ts';
import { vicreg, type VicregConfig } from './vicreg/index.ts';

export type { EmbeddedBatch, Learned, Learner, Method, MethodSetting } from './method.ts';

/** A method and its own settings; those that all methods share belong to the trainer. */
export type MethodConfig = SimclrConfig | BarlowTwinsConfig | VicregConfig;

/** @throws RangeError for a setting out of range. */
export function methodOf(config: MethodConfig, setting: MethodSetting): Method {
  switch (config.name) {
    case 'SIMCLR':
      return simclr(config, setting);
    case 'BARLOW_TWINS':
      return barlowTwins(config, setting);
    case 'VICREG':
      return vicreg(config, setting);
  }
}
