/**
 * Validation of client input: converts schema errors to one error that names its field, checks ids, and handles
 * idempotency keys.
 */
import { createHash } from 'node:crypto';
import { z } from 'zod';
import { DomainError } from './errors.ts';

/**
 * Parses a mutation's input; the first fault becomes an error that names its field, the others are listed in the hint.
 * @throws DomainError BAD_INPUT.
 */
export function parseInput<Value>(schema: z.ZodType<Value>, input: unknown): Value {
  const parsed = schema.safeParse(input);
  if (parsed.success) return parsed.data;
  const [first, ...others] = parsed.error.issues.map((issue) => ({
    field: ['input', ...issue.path].join('.'),
    text: `${issue.path.join('.') || 'input'} ${issue.message}`,
  }));
  const hint = others.length === 0 ? {} : { hint: `Also: ${others.map(({ text }) => text).join('; ')}.` };
  throw new DomainError({
    code: 'BAD_INPUT',
    message: `${first?.text ?? 'input is invalid'}.`,
    field: first?.field ?? 'input',
    ...hint,
  });
}

const UUID_PATTERN = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

/** An id that is not a uuid matches nothing; PostgreSQL would raise an error for it. */
export function isId(text: string): boolean {
  return UUID_PATTERN.test(text);
}

/** Any printable text; PostgreSQL rejects NUL. */
export const idempotencyKeySchema = z
  .string()
  .min(1)
  .max(200)
  .regex(/^\P{Cc}*$/u, 'must not contain control characters');

/**
 * sha256 over an input with its keys in order: distinguishes a repeated request from a different one with the same key.
 */
export function digestOfInput(input: unknown): string {
  return createHash('sha256')
    .update(JSON.stringify(canonical(input)))
    .digest('hex');
}

function canonical(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(canonical);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([, item]) => item !== undefined && item !== null)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, item]) => [key, canonical(item)]),
  );
}
