/** Schemas of optimizers in launches and in frozen configs. The engine has the same shapes as plain types. */
import { z } from 'zod';

const momentum = z.number().min(0, 'must be at least 0').lt(1, 'must be below 1');
const beta = z.number().min(0, 'must be at least 0').lt(1, 'must be below 1');
const weightDecay = z.number().min(0, 'must not be negative').max(10, 'must be at most 10');
const epsilon = z.number().gt(0, 'must be positive').max(1, 'must be at most 1');
const adamParameters = { beta1: beta, beta2: beta, epsilon, weightDecay };

const larsSchema = z.object({ name: z.literal('LARS'), momentum, weightDecay });
const sgdSchema = z.object({ name: z.literal('SGD'), momentum, nesterov: z.boolean(), weightDecay });
const adamSchema = z.object({ name: z.literal('ADAM'), ...adamParameters });
const adamWSchema = z.object({ name: z.literal('ADAMW'), ...adamParameters });

export const optimizerSchema = z.discriminatedUnion('name', [larsSchema, sgdSchema, adamSchema, adamWSchema]);
export type OptimizerConfig = z.infer<typeof optimizerSchema>;
export type OptimizerName = OptimizerConfig['name'];

export const OPTIMIZER_NAMES = ['LARS', 'SGD', 'ADAM', 'ADAMW'] as const satisfies readonly OptimizerName[];

/** The optimizer in a launch: a name, and any of that optimizer's parameters. */
export const optimizerChoiceSchema = z.strictObject({
  name: z.enum(OPTIMIZER_NAMES),
  momentum: momentum.nullish(),
  nesterov: z.boolean().nullish(),
  beta1: beta.nullish(),
  beta2: beta.nullish(),
  epsilon: epsilon.nullish(),
  weightDecay: weightDecay.nullish(),
});
export type OptimizerChoice = z.infer<typeof optimizerChoiceSchema>;
export type OptimizerParameter = Exclude<keyof OptimizerChoice, 'name'>;

/** The parameters of each optimizer. */
export const OPTIMIZER_PARAMETERS: Readonly<Record<OptimizerName, readonly OptimizerParameter[]>> = {
  LARS: ['momentum', 'weightDecay'],
  SGD: ['momentum', 'nesterov', 'weightDecay'],
  ADAM: ['beta1', 'beta2', 'epsilon', 'weightDecay'],
  ADAMW: ['beta1', 'beta2', 'epsilon', 'weightDecay'],
};

/** The first chosen parameter that the optimizer does not have; undefined if all are valid. */
export function inapplicableParameter(choice: OptimizerChoice): OptimizerParameter | undefined {
  return allParameters().find(
    (parameter) => choice[parameter] != null && !OPTIMIZER_PARAMETERS[choice.name].includes(parameter),
  );
}

/** The optimizers that have this parameter. */
export function optimizersWith(parameter: OptimizerParameter): OptimizerName[] {
  return OPTIMIZER_NAMES.filter((name) => OPTIMIZER_PARAMETERS[name].includes(parameter));
}

function allParameters(): OptimizerParameter[] {
  return [...new Set(OPTIMIZER_NAMES.flatMap((name) => OPTIMIZER_PARAMETERS[name]))];
}
