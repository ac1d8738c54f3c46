/** What a run of each kind ends with when it succeeds: plain data plus the digests of artifacts. */
import { z } from 'zod';
import { trainedEncoderSchema } from './checkpoint.ts';
import { embeddingOutcomeSchema } from './embedding.ts';
import { evaluationOutcomeSchema } from './evaluation.ts';
import { exportOutcomeSchema } from './export.ts';
import { importOutcomeSchema } from './import.ts';

/** The encoders to register, in this order: the last one becomes the model's newest version. */
export const pretrainingOutcomeSchema = z.strictObject({
  kind: z.literal('PRETRAINING'),
  encoders: z.array(trainedEncoderSchema).min(1).readonly(),
});

export const runOutcomeSchema = z.discriminatedUnion('kind', [
  importOutcomeSchema,
  pretrainingOutcomeSchema,
  evaluationOutcomeSchema,
  exportOutcomeSchema,
  embeddingOutcomeSchema,
]);
export type RunOutcome = Readonly<z.infer<typeof runOutcomeSchema>>;
