/** Reading what people send: a schema's faults as one error that names its field, and ids that may be none. */
import type { z } from 'zod';
import { DomainError } from './errors.ts';

/**
 * Parses a mutation's input; the first fault becomes an error that names its field, the others stand in the hint.
 * @throws DomainError BAD_INPUT.
 */
export function parseInput<Value>(schema: z.ZodType<Value>, input: unknown): Value {
  const parsed = schema.safeParse(input);
  if (parsed.success) return parsed.data;
  const [first, ...others] = parsed.error.issues.map((issue) => ({ field: ['input', ...issue.path].join('.'), text: `${issue.path.join('.') || 'input'} ${issue.message}` }));
  const hint = others.length === 0 ? {} : { hint: `Also: ${others.map(({ text }) => text).join('; ')}.` };
  throw new DomainError({ code: 'BAD_INPUT', message: `${first?.text ?? 'input is wrong'}.`, field: first?.field ?? 'input', ...hint });
}

const UUID_PATTERN = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

/** An id that is no uuid belongs to nothing here; the database would throw at it. */
export function isId(text: string): boolean {
  return UUID_PATTERN.test(text);
}
