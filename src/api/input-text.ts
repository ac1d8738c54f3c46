/**
 * Refuses control characters in the text that clients send: PostgreSQL cannot store NUL, and terminals execute escape
 * sequences.
 */
import { GraphQLError, Kind, visit, type DocumentNode } from 'graphql';
import { DomainError } from '../errors.ts';

/** Tab and line breaks belong to longer texts; fields that are names refuse them themselves. */
const CONTROL_CHARACTER = /[^\P{Cc}\t\n\r]/u;
/** The scalar refuses deeper values. */
const DEPTH_MAX = 100;

/**
 * Finds the first string of an operation, in its document or its variables, that contains a control character (such as
 * NUL or ESC) or half of a surrogate pair. Checked before anything runs, so that no field has to.
 * @returns a GraphQLError with code BAD_INPUT that names the variable; undefined where all text is valid.
 */
export function faultInText(
  document: DocumentNode,
  variables: Readonly<Record<string, unknown>>,
): GraphQLError | undefined {
  let fault: DomainError | undefined;
  visit(document, {
    [Kind.STRING]: ({ value }) => {
      fault ??= faultOf(value, undefined);
    },
  });
  for (const [name, value] of Object.entries(variables)) fault ??= faultWithin(value, name, 0);
  return fault === undefined
    ? undefined
    : new GraphQLError(fault.message, {
        originalError: fault,
        extensions: { code: 'BAD_INPUT', http: { status: 400 } },
      });
}

function faultWithin(value: unknown, place: string, depth: number): DomainError | undefined {
  if (typeof value === 'string') return faultOf(value, place);
  if (typeof value !== 'object' || value === null || depth > DEPTH_MAX) return undefined;
  for (const [key, item] of Object.entries(value)) {
    const fault = faultOf(key, place) ?? faultWithin(item, `${place}.${key}`, depth + 1);
    if (fault !== undefined) return fault;
  }
  return undefined;
}

function faultOf(text: string, field: string | undefined): DomainError | undefined {
  const control = CONTROL_CHARACTER.exec(text)?.[0];
  if (control === undefined && text.isWellFormed()) return undefined;
  const what =
    control === undefined
      ? 'half of a surrogate pair, which is not a character'
      : `the control character U+${control.charCodeAt(0).toString(16).toUpperCase().padStart(4, '0')}`;
  return new DomainError({
    code: 'BAD_INPUT',
    message: `The text contains ${what}.`,
    ...(field === undefined ? {} : { field }),
    hint: 'Send Unicode text without control characters.',
  });
}
