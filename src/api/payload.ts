/**
 * Mutations return expected failures as values: `userErrors { code field message hint }`, with null for the payload's
 * object.
 */
import { DomainError } from '../errors.ts';
import type { NexusGenObjectNames } from '../generated/nexus.ts';
import { list, nonNull, objectType } from './nexus.ts';

export interface UserErrorRecord {
  readonly code: string;
  readonly field: string | null;
  readonly message: string;
  readonly hint: string | null;
}

export const UserError = objectType({
  name: 'UserError',
  description: 'An expected failure of a mutation, with a message for the user.',
  definition(t) {
    t.nonNull.string('code', { description: 'Stable; programs may rely on it.' });
    t.string('field', { description: 'The invalid input field, as a dotted path.' });
    t.nonNull.string('message');
    t.string('hint', { description: 'What to do next.' });
  },
});

/** A payload type with one nullable object and the list of user errors. */
export function payloadType(name: string, field: string, type: NexusGenObjectNames) {
  return objectType({
    name,
    definition(t) {
      t.field(field, { type });
      t.field('userErrors', { type: nonNull(list(nonNull('UserError'))) });
    },
  });
}

/** Codes that are thrown as GraphQL errors, because the refusal does not depend on the input. */
const NOT_ALLOWED = new Set(['UNAUTHENTICATED', 'FORBIDDEN']);

/**
 * Runs the work of a mutation. A DomainError becomes a user error; any other error is rethrown.
 * @param field the payload's object, e.g. `dataset`.
 */
export async function settle<Field extends string, Value>(
  field: Field,
  work: () => Promise<Value>,
): Promise<Record<Field, Value | null> & { userErrors: UserErrorRecord[] }> {
  try {
    return payload(field, await work(), []);
  } catch (error) {
    if (!(error instanceof DomainError) || NOT_ALLOWED.has(error.code)) throw error;
    return payload(field, null, [
      { code: error.code, field: error.field ?? null, message: error.message, hint: error.hint ?? null },
    ]);
  }
}

function payload<Field extends string, Value>(
  field: Field,
  value: Value | null,
  userErrors: UserErrorRecord[],
): Record<Field, Value | null> & { userErrors: UserErrorRecord[] } {
  const object: Record<string, Value | null> = { [field]: value };
  return Object.assign(object, { userErrors });
}
