/** A job is a name and a schema; messages are validated both when they are sent and when they are received. */
import { z } from 'zod';

export interface Job<Payload> {
  readonly name: string;
  readonly parse: (payload: unknown) => Payload;
}

export function defineJob<Payload>(name: string, schema: z.ZodType<Payload>): Job<Payload> {
  return { name, parse: (payload) => schema.parse(payload) };
}

/** The message contains only the run's id, because the row of the run is authoritative. */
export const runJobPayload = z.strictObject({ runId: z.uuid() });
export type RunJobPayload = z.infer<typeof runJobPayload>;
