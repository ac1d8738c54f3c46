/**
 * The calls of a worker itself, with a key that may WORK. A claimed run comes with a token, and everything that
 * concerns this run, from the renewal of its lease to its end, goes by the calls of run-calls.ts with that token.
 */
import { z } from 'zod';
import { storedBytesSchema } from './artifacts.ts';
import { NO_CAPABILITIES, runRequirementsSchema, workerCapabilitiesSchema } from './requirements.ts';
import { heldLeaseSchema, partLeaseSchema, RUN_STATUSES, runKindSchema, runLeaseSchema } from './runs.ts';

/** Changes when a worker of the version before could misunderstand the registry, or the other way round. */
export const PROTOCOL_VERSION = 1;

/** How long the registry may hold a claim open when no run waits. */
export const CLAIM_WAIT_SECONDS_MAX = 30;

export const claimSchema = z.strictObject({
  /** PROTOCOL_VERSION of the worker; another one is refused with WORKER_INCOMPATIBLE. */
  protocolVersion: z.number().int(),
  /** The version of the worker's program, for the message that refuses it. */
  programVersion: z.string().max(100),
  workerName: z.string().min(1).max(200),
  /** The kinds of run that this place of the worker takes. */
  kinds: z.array(runKindSchema).min(1),
  /** The device that will run it, which gets one run at a time; null for a run that needs none. */
  deviceId: z.string().min(1).max(200).nullable(),
  /** Only this run; null: the next of these kinds. */
  runId: z.uuid().nullable(),
  /** The answer comes as soon as a run is claimed, and at the latest after this time. */
  waitSeconds: z.number().min(0).max(CLAIM_WAIT_SECONDS_MAX),
  /** What this place has; a worker that leaves it out takes runs that need nothing. */
  capabilities: workerCapabilitiesSchema.default(NO_CAPABILITIES),
  /** If no run waits, a part of an import that another worker holds will do: see part-calls.ts. */
  takesParts: z.boolean().optional(),
});
export type Claim = Readonly<z.infer<typeof claimSchema>>;

export const claimedRunSchema = z.object({
  run: z.object({
    id: z.uuid(),
    kind: runKindSchema,
    /** Frozen; each kind has its own schema. */
    config: z.unknown(),
    /** 1 for the first attempt. */
    attempt: z.number().int(),
    /** Images per pass of the network after the run ran out of memory; null: the value of the config. */
    microBatchSize: z.number().int().nullable(),
    /** Longest running time, over all attempts; null: no limit. */
    maxDurationSeconds: z.number().int().nullable(),
    /** Running time of the attempts before this one. */
    busySeconds: z.number(),
  }),
  lease: runLeaseSchema,
  /** Good for this run and this lease alone. */
  token: z.string(),
});
export type ClaimedRun = Readonly<z.infer<typeof claimedRunSchema>>;

/** A part of a run that another worker holds. */
export const claimedPartSchema = z.object({
  run: claimedRunSchema.shape.run,
  lease: partLeaseSchema,
  /** What is to be done, as the worker of the run has planned it: see part-calls.ts. */
  plan: storedBytesSchema,
  /** Good for this part and this lease alone. */
  token: z.string(),
});
export type ClaimedPart = Readonly<z.infer<typeof claimedPartSchema>>;

/** Null: no run waits for this place. A part only for a claim that takes parts. */
export const claimAnswerSchema = z.union([claimedPartSchema, claimedRunSchema]).nullable();

/** What a one-shot worker asks about the run that it is told to take; null: the run does not exist. */
export const runQuestionSchema = z.strictObject({ runId: z.uuid() });
export const runQuestionAnswerSchema = z
  .object({
    kind: runKindSchema,
    status: z.enum(RUN_STATUSES),
    requirements: runRequirementsSchema,
    maxDurationSeconds: z.number().int().nullable(),
    excludedWorkers: z.array(z.string()).readonly(),
  })
  .nullable();
export type RunQuestionAnswer = Readonly<z.infer<typeof runQuestionAnswerSchema>>;

/** Which of these leases still hold; an expired one counts until its run or part is taken by another worker. */
export const heldSchema = z.strictObject({ leases: z.array(heldLeaseSchema).max(1000).readonly() });
export const heldAnswerSchema = z.array(heldLeaseSchema).readonly();

/** A body of a call is at most this large: the outcome of an import of a million images has some megabytes. */
export const CALL_BYTES_MAX = 64 * 1024 * 1024;
