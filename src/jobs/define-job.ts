/** A job is a name and a schema: parsed when it is put into the queue and again when it is taken out. */
import { z } from 'zod';

export interface Job<Payload> {
  readonly name: string;
  readonly parse: (payload: unknown) => Payload;
}

export function defineJob<Payload>(name: string, schema: z.ZodType<Payload>): Job<Payload> {
  return { name, parse: (payload) => schema.parse(payload) };
}

/** The row of the run is the truth; the message only says where to look. */
export const runJobPayload = z.strictObject({ runId: z.uuid() });
export type RunJobPayload = z.infer<typeof runJobPayload>;
