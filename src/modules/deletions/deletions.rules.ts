/** The input of a deletion, and the tombstone that it leaves. Pure. */
import { z } from 'zod';

export const DELETABLE_KINDS = ['DATASET', 'DATASET_VERSION', 'MODEL', 'CHECKPOINT', 'RUN'] as const;
export type DeletableKind = (typeof DELETABLE_KINDS)[number];

export const deleteSchema = z.object({
  id: z.uuid('must be an id of this registry').toLowerCase(),
  reason: z
    .string()
    .trim()
    .min(1, 'must state a reason')
    .max(1_000, 'must be at most 1000 characters')
    .regex(/^[^\0]*$/, 'must not contain a NUL character'),
});

export interface TombstoneRecord {
  /** Id of the deleted object. */
  readonly id: string;
  readonly kind: DeletableKind;
  /** Its name at the time, e.g. "tissue-encoder version 3". */
  readonly name: string;
  /** The sha256 of a checkpoint's weights, or the digest of a dataset version. */
  readonly digest: string | null;
  readonly reason: string;
  /** The person whose key requested the deletion. */
  readonly deletedBy: string;
  readonly deletedByKey: string | null;
  readonly deletedAt: Date;
}

/** An object that is about to be deleted. */
export interface DeletableObject {
  readonly name: string;
  readonly digest: string | null;
  /** The dataset or model that assigned its number; the number is never used again. */
  readonly parentId: string | null;
  readonly version: number | null;
  /** Its dependents, in words: "2 evaluations". If empty, it can be deleted. */
  readonly neededBy: readonly string[];
  /** A run that has not ended. */
  readonly isUnderWay?: boolean;
  /** What the user can do about it. */
  readonly hint: string;
}
