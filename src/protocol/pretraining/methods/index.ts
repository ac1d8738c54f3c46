/**
 * The pretraining methods as data. To add one: write its file, and a line here; the engine has a folder for each,
 * `workers/engine/methods`, with the same settings as plain types.
 */
import { z } from 'zod';
import type { RecipeName } from '../recipe.ts';
import { BARLOW_TWINS } from './barlow-twins.ts';
import { DINO } from './dino.ts';
import type { MethodConfig, MethodDescription } from './description.ts';
import { MOCO } from './moco.ts';
import { SIMCLR } from './simclr.ts';
import { VICREG } from './vicreg.ts';

export type { MethodConfig, MethodDescription, SeriesDescription } from './description.ts';

const methods: MethodDescription[] = [SIMCLR, BARLOW_TWINS, VICREG, DINO, MOCO];

/**
 * Adds a method that is not part of this program, for this process. To be launched, it must be added before the
 * modules of the server are loaded, whose schemas list the names.
 * @throws RangeError if a method has its name already.
 */
export function registerMethodDescription(description: MethodDescription): void {
  if (methods.some(({ name }) => name === description.name))
    throw new RangeError(`A pretraining method is called ${description.name} already.`);
  methods.push(description);
}

export function methodNames(): string[] {
  return methods.map(({ name }) => name);
}

/** @throws RangeError for an unknown name. */
export function describeMethod(wanted: string): MethodDescription {
  const found = methods.find(({ name }) => name === wanted);
  if (found === undefined) throw new RangeError(`No pretraining method is called ${wanted}.`);
  return found;
}

/** A frozen config, read by the schema of its method. */
export const methodConfigSchema = z.looseObject({ name: z.string() }).transform((config, context): MethodConfig => {
  const parsed = methods.find(({ name }) => name === config.name)?.config.safeParse(config);
  if (parsed?.success === true) return parsed.data;
  for (const { path, message } of parsed?.error.issues ?? [{ path: ['name'], message: 'is not a pretraining method' }])
    context.addIssue({ code: 'custom', path: [...path], message });
  return z.NEVER;
});

/**
 * All settings of a method: the launch's options, and for the others the recipe's values.
 *
 * @param temperature null: the recipe's.
 * @throws ZodError whose paths are those of the options.
 */
export function methodConfigOf(
  name: string,
  recipe: RecipeName,
  options: unknown,
  temperature: number | null,
): MethodConfig {
  const { config, defaults, options: schema, hasTemperature } = describeMethod(name);
  const chosen = schema.parse(options);
  return config.parse({
    name,
    ...defaults(recipe, chosen),
    ...(temperature === null || !hasTemperature ? {} : { temperature }),
    ...chosen,
  });
}

/** One sentence with all settings: `SimCLR (Chen et al. 2020): temperature 0.2, projectionDim 128.` */
export function methodInWords({ name, ...settings }: MethodConfig): string {
  const { title, paper, exported } = describeMethod(name);
  const values = Object.entries(settings).map(([setting, value]) => `${setting} ${String(value)}`);
  const encoder = exported === undefined ? '' : `; the registered encoder is ${exported}`;
  return `${title} (${paper}): ${values.join(', ')}${encoder}.`;
}

const frozenSchema = z.object({ method: z.object({ name: z.string() }) });

/** The method of a frozen config; SimCLR for runs from before there were others. */
export function methodNameIn(config: unknown): string {
  return frozenSchema.safeParse(config).data?.method.name ?? 'SIMCLR';
}
