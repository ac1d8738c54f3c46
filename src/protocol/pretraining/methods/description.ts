/** What the registry knows of a pretraining method: its words, its settings, and their defaults with their source. */
import type { z } from 'zod';
import type { Recipe, RecipeName } from '../recipe.ts';

/** A series of metrics that a method watches. */
export interface SeriesDescription {
  /** The name of its metric. */
  readonly name: string;
  readonly title: string;
  /** One sentence on how to read it. */
  readonly meaning: string;
  /** A value to compare with, such as that of a collapse. */
  readonly level?: { readonly value: number; readonly label: string };
}

/** A method's name and its settings, which the schema of its description has checked. */
export type MethodConfig = Readonly<Record<string, string | number | boolean>> & { readonly name: string };

export interface MethodDescription {
  /** As configs and the API have it: `BARLOW_TWINS`. */
  readonly name: string;
  /** As people write it: `Barlow Twins`. */
  readonly title: string;
  /** The paper that the method follows. */
  readonly paper: string;
  /** For the help: the options of a launch. */
  readonly help: string;
  /**
   * The settings that are frozen in a run. `temperature` is named at the top of a launch, all others are options; a
   * union where they depend on each other.
   */
  readonly config: z.ZodType<MethodConfig>;
  /** The options of a launch: any of the settings except `name` and `temperature`; unknown ones are refused. */
  readonly options: z.ZodType<object>;
  /** Whether its loss has a temperature that a launch may name. */
  readonly hasTemperature: boolean;
  /** The recipes that have values for this method. */
  readonly recipes: readonly RecipeName[];
  /**
   * All settings except `name`.
   * @param options of the launch, checked: defaults may depend on them.
   */
  defaults(recipe: RecipeName, options: object): object;
  /** Where the recipe DEFAULT has other values with this method. */
  recipeChanges?(usual: Recipe): Partial<Recipe>;
  /** Which encoder is registered, if it is not the one that is trained: `the teacher`. */
  readonly exported?: string;
  /** What it watches beside the loss and the collapse of embeddings, which all methods have. */
  readonly series: readonly SeriesDescription[];
}
