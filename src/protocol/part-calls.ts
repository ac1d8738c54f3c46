/**
 * Parts of an import of slides, each of which another worker may read: what the worker that holds the run says of them
 * (`planParts` and `takePart` of run-calls.ts), and the calls of a worker that has claimed one.
 */
import { z } from 'zod';
import { storedBytesSchema } from './artifacts.ts';
import { LEASE_SECONDS } from './runs.ts';

/** More slides than this are read by the worker of the run alone. */
export const PARTS_MAX = 100_000;

/** One slide. */
export const plannedPartSchema = z.strictObject({
  /** Among the slides of the import, from 0. */
  number: z.int().min(0),
  /** What is to be read: see workers/imaging/slides/slide-part.ts. A part whose plan has changed starts anew. */
  plan: storedBytesSchema,
});
export type PlannedPart = Readonly<z.infer<typeof plannedPartSchema>>;

/** What a part gave: see workers/imaging/slides/slide-part.ts. */
export const partOutcomeSchema = z.strictObject({
  /** What was learnt of each batch of patches. */
  facts: storedBytesSchema,
  /** The encoded patches, one behind the other; null if there are none. */
  patches: storedBytesSchema.nullable(),
});
export type PartOutcome = Readonly<z.infer<typeof partOutcomeSchema>>;

const REASON_LENGTH_MAX = 2000;
const reason = z.string().min(1).max(REASON_LENGTH_MAX);

/** A worker that could not do a part. */
export const refusalSchema = z.object({ worker: z.string(), reason: z.string() });
export type Refusal = z.infer<typeof refusalSchema>;

/** Whose a part is, as the worker of the run sees it. */
export const partStateSchema = z.discriminatedUnion('state', [
  /** The worker of the run reads it itself; and who could not. */
  z.object({ state: z.literal('YOURS'), givenBack: z.array(refusalSchema).readonly() }),
  z.object({ state: z.literal('TAKEN'), worker: z.string() }),
  z.object({ state: z.literal('SETTLED'), worker: z.string(), outcome: partOutcomeSchema }),
]);
export type PartState = Readonly<z.infer<typeof partStateSchema>>;

const done = z.null();

export const PART_CALLS = {
  /** Renews the lease for LEASE_SECONDS. Throws LEASE_LOST once another worker has the part, or the run ends. */
  renew: { input: z.strictObject({}), output: z.object({ leaseSeconds: z.literal(LEASE_SECONDS) }) },
  /** Ends the part. Throws ARTIFACT_NOT_FOUND and OUTCOME_INVALID for bytes that are not stored as they are named. */
  settle: { input: z.strictObject({ outcome: partOutcomeSchema }), output: done },
  /**
   * Leaves the part to others. A worker that gives a reason gets no more parts of this run; null: it stops, for reasons
   * of its own.
   */
  giveBack: { input: z.strictObject({ reason: reason.nullable() }), output: done },
} as const satisfies Readonly<Record<string, { readonly input: z.ZodType; readonly output: z.ZodType }>>;

export type PartCallName = keyof typeof PART_CALLS;

export function isPartCall(name: string): name is PartCallName {
  return Object.hasOwn(PART_CALLS, name);
}

/** The registry as the process sees it that reads a part. */
export type PartRegistry = {
  readonly [Name in PartCallName]: (
    input: z.input<(typeof PART_CALLS)[Name]['input']>,
  ) => Promise<z.output<(typeof PART_CALLS)[Name]['output']>>;
};

/** @param send carries a call to the registry and returns its answer, or throws the DomainError of the call. */
export function partRegistryOver(send: (name: PartCallName, input: unknown) => Promise<unknown>): PartRegistry {
  return {
    renew: async (input) => PART_CALLS.renew.output.parse(await send('renew', input)),
    settle: async (input) => PART_CALLS.settle.output.parse(await send('settle', input)),
    giveBack: async ({ reason: told }) =>
      PART_CALLS.giveBack.output.parse(
        await send('giveBack', { reason: told === null ? null : told.slice(0, REASON_LENGTH_MAX) }),
      ),
  };
}
