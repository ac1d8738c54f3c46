/** What the agent and its child say to each other. Secrets travel here, never in argv. */
import { z } from 'zod';

export const startMessageSchema = z.object({
  kind: z.literal('START'),
  databaseUrl: z.string(),
  artifactsDir: z.string(),
  workDir: z.string(),
  logLevel: z.string(),
  codeRevision: z.string().nullable(),
  run: z.object({ id: z.string(), kind: z.enum(['IMPORT', 'PRETRAINING', 'EVALUATION', 'EXPORT']), config: z.unknown(), attempt: z.number() }),
  lease: z.object({ runId: z.string(), epoch: z.number() }),
});
export type StartMessage = z.infer<typeof startMessageSchema>;

export const agentMessageSchema = z.discriminatedUnion('kind', [startMessageSchema, z.object({ kind: z.literal('STOP'), reason: z.enum(['CANCEL', 'DRAIN']) })]);
export type AgentMessage = z.infer<typeof agentMessageSchema>;

/** SETTLED: the child has written the run's outcome itself, and the agent has nothing left to do. */
export const childMessageSchema = z.object({ kind: z.literal('SETTLED') });
