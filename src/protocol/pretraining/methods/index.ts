/**
 * The pretraining methods as data. To add one: write its file, and a line in both lists below; the engine has a folder
 * for each, `workers/engine/methods`, with the same settings as plain types.
 */
import { z } from 'zod';
import type { RecipeName } from '../recipes.ts';
import { BARLOW_TWINS } from './barlow-twins.ts';
import type { MethodDescription } from './description.ts';
import { SIMCLR } from './simclr.ts';
import { VICREG } from './vicreg.ts';

const METHODS = { SIMCLR, BARLOW_TWINS, VICREG } as const satisfies Readonly<Record<string, MethodDescription>>;

export const methodConfigSchema = z.discriminatedUnion('name', [SIMCLR.config, BARLOW_TWINS.config, VICREG.config]);
export type MethodConfig = z.infer<typeof methodConfigSchema>;
export type MethodName = MethodConfig['name'];

export const METHOD_NAMES = ['SIMCLR', 'BARLOW_TWINS', 'VICREG'] as const satisfies readonly MethodName[];

export function describeMethod(name: MethodName): MethodDescription {
  return METHODS[name];
}

/**
 * All settings of a method: the launch's options, and for the others the recipe's values.
 *
 * @param temperature null: the recipe's.
 * @throws ZodError whose paths are those of the options.
 */
export function methodConfigOf(
  name: MethodName,
  recipe: RecipeName,
  options: unknown,
  temperature: number | null,
): MethodConfig {
  const { defaults, options: schema } = METHODS[name];
  return methodConfigSchema.parse({
    name,
    ...defaults(recipe),
    ...(temperature === null || !hasTemperature(name) ? {} : { temperature }),
    ...schema.parse(options),
  });
}

/** Whether the method's loss has a temperature. */
export function hasTemperature(name: MethodName): boolean {
  return 'temperature' in METHODS[name].config.shape;
}

/** One sentence with all settings: `SimCLR (Chen et al. 2020): temperature 0.2, projectionDim 128.` */
export function methodInWords({ name, ...settings }: MethodConfig): string {
  const { title, paper } = METHODS[name];
  const values = Object.entries(settings).map(([setting, value]) => `${setting} ${String(value)}`);
  return `${title} (${paper}): ${values.join(', ')}.`;
}

const frozenSchema = z.object({ method: z.object({ name: z.enum(METHOD_NAMES) }) });

/** The method of a frozen config; SimCLR for runs from before there were others. */
export function methodNameIn(config: unknown): MethodName {
  return frozenSchema.safeParse(config).data?.method.name ?? 'SIMCLR';
}
