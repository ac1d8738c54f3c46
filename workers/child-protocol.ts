/** The messages between the agent and its child. Secrets are sent here, never in argv. */
import { z } from 'zod';
import { storedBytesSchema } from '../src/protocol/artifacts.ts';
import { partLeaseSchema, runKindSchema, runLeaseSchema } from '../src/protocol/runs.ts';

export const startMessageSchema = z.object({
  kind: z.literal('START'),
  /** The registry's URL. */
  url: z.string(),
  /** Good for this run or part, and this lease alone. */
  token: z.string(),
  dataDir: z.string(),
  /** The folder of the registry's artifacts, if this machine shares it; null: they go over HTTP. */
  artifactsDir: z.string().nullable(),
  cacheDir: z.string(),
  cacheBytes: z.number(),
  workDir: z.string(),
  logLevel: z.string(),
  codeRevision: z.string().nullable(),
  run: z.object({
    id: z.string(),
    kind: runKindSchema,
    config: z.unknown(),
    attempt: z.number(),
    microBatchSize: z.number().nullable(),
  }),
  /** The plan of a part; null: the whole run. */
  claim: z.union([
    z.object({ lease: runLeaseSchema, plan: z.null() }),
    z.object({ lease: partLeaseSchema, plan: storedBytesSchema }),
  ]),
  /** What the engine must find: a run that was given a GPU must not be computed on the CPU in silence. */
  device: z.enum(['CPU', 'GPU']),
});
export type StartMessage = z.infer<typeof startMessageSchema>;

/** A user cancelled the run; the worker is stopping; the run took longer than it may. */
const stopReasonSchema = z.enum(['CANCEL', 'DRAIN', 'TIMEOUT']);
export type StopReason = z.infer<typeof stopReasonSchema>;

export const agentMessageSchema = z.discriminatedUnion('kind', [
  startMessageSchema,
  z.object({ kind: z.literal('STOP'), reason: stopReasonSchema }),
]);
export type AgentMessage = z.infer<typeof agentMessageSchema>;

/**
 * SETTLED: the child has written the run's outcome itself, and the agent has nothing left to do. ALIVE: a piece of work
 * is done. Sent by the work and not by a timer, so that a stuck child becomes silent. UNSAVED_PROGRESS: since the start
 * or the last STATE_SAVED there is progress that would be lost with the child. STATE_SAVED: the state from which the
 * run continues is stored.
 */
export const childMessageSchema = z.object({ kind: z.enum(['SETTLED', 'ALIVE', 'UNSAVED_PROGRESS', 'STATE_SAVED']) });
export type ChildMessage = z.infer<typeof childMessageSchema>;
