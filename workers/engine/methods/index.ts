/** The pretraining methods by name. To add one: write its folder, and a line in both places below. */
import type { Method, MethodSetting } from './method.ts';
import { simclr, type SimclrConfig } from './simclr/index.ts';

export type { EmbeddedBatch, Learned, Learner, Method, MethodSetting } from './method.ts';

/** A method and its own settings; those that all methods share belong to the trainer. */
export type MethodConfig = SimclrConfig;

/** @throws RangeError for a setting out of range. */
export function methodOf(config: MethodConfig, setting: MethodSetting): Method {
  switch (config.name) {
    case 'SIMCLR':
      return simclr(config, setting);
  }
}
