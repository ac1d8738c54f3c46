/** The schema of the catalogue of published checkpoints. Unknown values are null, never a guess. Pure. */
import { z } from 'zod';
import { architectureNamed, describeEncoder, NAMED_ENCODERS, type NamedEncoder } from '../../formats/encoders/index.ts';
import { sha256Schema } from './import.rules.ts';
import type { ExternalSourceRecord, TrainingFactRecord } from './models.records.ts';
import { slugSchema, trainingFactSchema } from './models.rules.ts';
import { inputContractSchema, type InputContract } from '../../protocol/checkpoint.ts';

/** One checkpoint of the catalogue, ready for the database. */
export interface PublishedCheckpoint {
  readonly slug: string;
  readonly name: string;
  readonly description: string;
  readonly encoder: NamedEncoder;
  readonly embeddingDim: number;
  readonly inputContract: InputContract;
  readonly importedFrom: ExternalSourceRecord;
  readonly trainingFacts: readonly TrainingFactRecord[];
}

const factSchema = trainingFactSchema.refine(
  (fact) => (fact.value === null) === (fact.evidence === null),
  'a known value needs evidence, and an unknown value must have none',
);

const entrySchema = z.strictObject({
  slug: slugSchema,
  name: z.string().min(1),
  description: z.string().min(1),
  encoder: z.enum(NAMED_ENCODERS),
  url: z.url({ protocol: /^https$/ }).nullable(),
  fileName: z.string().min(1).nullable(),
  byteSize: z.number().int().positive().nullable(),
  sha256: sha256Schema.nullable(),
  licence: z.string().min(1).nullable(),
  /** Facts in addition to the shared ones; a fact with the same name overrides the shared one. */
  trainingFacts: z.array(factSchema),
});

export const publishedCheckpointsSchema = z
  .strictObject({
    inputContract: inputContractSchema,
    trainingFacts: z.array(factSchema),
    checkpoints: z.array(entrySchema),
  })
  .refine(({ checkpoints }) => new Set(checkpoints.map((entry) => entry.slug)).size === checkpoints.length, {
    path: ['checkpoints'],
    message: 'two entries have the same slug',
  });

export function publishedOfEntry(
  entry: z.infer<typeof entrySchema>,
  shared: Pick<z.infer<typeof publishedCheckpointsSchema>, 'inputContract' | 'trainingFacts'>,
): PublishedCheckpoint {
  const { slug, name, description, encoder, url, fileName, byteSize, sha256, licence } = entry;
  const ownNames = new Set(entry.trainingFacts.map((fact) => fact.name));
  return {
    slug,
    name,
    description,
    encoder,
    embeddingDim: describeEncoder(architectureNamed(encoder)).embeddingDim(shared.inputContract.pooling),
    inputContract: shared.inputContract,
    importedFrom: { url, fileName, byteSize, sha256, licence, contents: null },
    trainingFacts: [...entry.trainingFacts, ...shared.trainingFacts.filter((fact) => !ownNames.has(fact.name))],
  };
}
