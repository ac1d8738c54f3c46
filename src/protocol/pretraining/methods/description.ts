/** What the registry knows of a pretraining method: its words, its settings, and their defaults with their source. */
import type { z } from 'zod';
import type { RecipeName } from '../recipes.ts';

export interface MethodDescription {
  /** As people write it: `Barlow Twins`. */
  readonly title: string;
  /** The paper that the method follows. */
  readonly paper: string;
  /** For the help: the options of a launch. */
  readonly help: string;
  /** The settings that are frozen in a run. `temperature` is named at the top of a launch, all others are options. */
  readonly config: z.ZodObject;
  /** The options of a launch: any of the settings except `name` and `temperature`; unknown ones are refused. */
  readonly options: z.ZodType<object>;
  /** The recipes that have values for this method. */
  readonly recipes: readonly RecipeName[];
  /** All settings except `name`. */
  defaults(recipe: RecipeName): object;
}
