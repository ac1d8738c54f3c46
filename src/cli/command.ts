/** How every command is declared: a summary, help with examples, and options with checked values. */
import { Command, InvalidArgumentError } from '@commander-js/extra-typings';

export interface CommandFacts {
  /** One line for the list of commands. */
  readonly summary: string;
  /** The description in the command's own help; default: the summary. */
  readonly details?: string;
  /** Without the word `paraffin`. */
  readonly examples: readonly string[];
}

export function command(name: string, { summary, details, examples }: CommandFacts): Command {
  return new Command(name)
    .summary(summary)
    .description(details ?? summary)
    .addHelpText('after', `\nExamples:\n${examples.map((example) => `  $ paraffin ${example}`).join('\n')}`);
}

/** A command that only contains subcommands. */
export function group(name: string, summary: string): Command {
  return new Command(name).summary(summary).description(summary);
}

/** A number from `least` to `most`, for an option or argument. */
export function numberFrom(least: number, most = Infinity): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (text.trim() !== '' && Number.isFinite(value) && value >= least && value <= most) return value;
    throw new InvalidArgumentError(
      `The value must be a number, ${least} or more${most === Infinity ? '' : ` and at most ${most}`}.`,
    );
  };
}

/** The same, without a fraction. */
export function wholeNumberFrom(least: number, most = Infinity): (text: string) => number {
  const number = numberFrom(least, most);
  return (text) => {
    const value = number(text);
    if (Number.isSafeInteger(value)) return value;
    throw new InvalidArgumentError('The value must be a whole number.');
  };
}

/**
 * One of the values of an enum, in any case, with hyphens or underscores. The table makes a missing value a type error.
 */
export function oneOf<Value extends string>(values: Readonly<Record<Value, true>>): (text: string) => Value {
  return (text) => {
    const wanted = text.toUpperCase().replaceAll('-', '_');
    for (const value in values) if (value === wanted) return value;
    throw new InvalidArgumentError(`Use one of ${namesOf(values).join(', ')}.`);
  };
}

/** For an option that may be given several times, or once with commas. */
export function listOf<Value>(
  parse: (text: string) => Value,
): (text: string, before: readonly Value[] | undefined) => readonly Value[] {
  return (text, before = []) => [...before, ...text.split(',').map((part) => parse(part.trim()))];
}

export const texts = listOf((text) => text);
export const numbers = listOf(numberFrom(Number.NEGATIVE_INFINITY));

/** A JSON object, as the API takes it. */
export function jsonObject(text: string): Readonly<Record<string, unknown>> {
  const refuse = (): never => {
    throw new InvalidArgumentError(
      'Give a JSON object, e.g. {"headCount": 12}, in quotes that your shell leaves alone.',
    );
  };
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? { ...value } : refuse();
  } catch {
    return refuse();
  }
}

/** The values as users type them. */
export function namesOf(values: Readonly<Record<string, true>>): string[] {
  return Object.keys(values).map((value) => value.toLowerCase().replaceAll('_', '-'));
}
