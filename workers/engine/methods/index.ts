/** The pretraining methods by name. To add one: write its folder, and a line here. */
import { BARLOW_TWINS } from './barlow-twins/index.ts';
import { DINO } from './dino/index.ts';
import type { Method, MethodSetting, PretrainingMethod } from './method.ts';
import { MOCO } from './moco/index.ts';
import { SIMCLR } from './simclr/index.ts';
import { VICREG } from './vicreg/index.ts';

export type { EmbeddedBatch, Learned, Learner, Method, MethodSetting, PretrainingMethod } from './method.ts';

const OWN = [SIMCLR, BARLOW_TWINS, VICREG, DINO, MOCO] as const;
const methods: PretrainingMethod<{ readonly name: string }>[] = [...OWN];

/**
 * A method and its own settings; those that all methods share belong to the trainer. Settings of a method that was
 * registered are known to that method alone.
 */
export type MethodConfig = Parameters<(typeof OWN)[number]['prepare']>[0] | { readonly name: string };

/**
 * Adds a method that is not part of this program, for this process.
 * @throws RangeError if a method has its name already.
 */
export function registerMethod(method: PretrainingMethod<{ readonly name: string }>): void {
  if (methods.some(({ name }) => name === method.name))
    throw new RangeError(`The engine has a pretraining method called ${method.name} already.`);
  methods.push(method);
}

/** @throws RangeError for a method that the engine does not know, or a setting out of range. */
export function methodOf(config: MethodConfig, setting: MethodSetting): Method {
  const method = methods.find(({ name }) => name === config.name);
  if (method === undefined) throw new RangeError(`The engine has no pretraining method called ${config.name}.`);
  return method.prepare(config, setting);
}
