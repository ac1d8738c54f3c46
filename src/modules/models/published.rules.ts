/** The schema of the catalogue of published checkpoints. Unknown values are null, never a guess. Pure. */
import { z } from 'zod';
import { architectureSchema, describeEncoder, type Architecture } from '../../formats/encoders/index.ts';
import { sha256Schema } from './import.rules.ts';
import type { ExternalSourceRecord, TrainingFactRecord } from './models.records.ts';
import { slugSchema, trainingFactSchema } from './models.rules.ts';
import { inputContractSchema, type InputContract } from '../../protocol/checkpoint.ts';

/** One checkpoint of the catalogue, ready for the database. */
export interface PublishedCheckpoint {
  readonly slug: string;
  readonly name: string;
  readonly description: string;
  readonly architecture: Architecture;
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
  /** The network as far as it is known before the file is read, which decides. */
  architecture: architectureSchema,
  url: z.url({ protocol: /^https$/ }).nullable(),
  fileName: z.string().min(1).nullable(),
  byteSize: z.number().int().positive().nullable(),
  sha256: sha256Schema.nullable(),
  licence: z.string().min(1).nullable(),
  /** The page where the publisher grants access to the file; null if it is open. */
  accessUrl: z.url({ protocol: /^https$/ }).nullable(),
  /** Instead of the group's. */
  inputContract: inputContractSchema.optional(),
  /** Facts in addition to the group's; a fact with the same name overrides the group's. */
  trainingFacts: z.array(factSchema),
});

/** Checkpoints of one publisher, which share what is known of them. */
const groupSchema = z.strictObject({
  inputContract: inputContractSchema,
  trainingFacts: z.array(factSchema),
  checkpoints: z.array(entrySchema),
});

export const publishedCheckpointsSchema = z
  .strictObject({ groups: z.array(groupSchema) })
  .transform(({ groups }): PublishedCheckpoint[] =>
    groups.flatMap((group) => group.checkpoints.map((entry) => publishedOfEntry(entry, group))),
  )
  .superRefine((published, context) => {
    const fault = (slug: string, message: string): void => context.addIssue({ code: 'custom', path: [slug], message });
    const seen = new Set<string>();
    for (const { slug, architecture, inputContract } of published) {
      if (seen.has(slug)) fault(slug, 'two entries have the same slug');
      seen.add(slug);
      const useFault = faultOfUse(architecture, inputContract);
      if (useFault !== undefined) fault(slug, useFault);
    }
  });

/** Why the network cannot be used under the contract; undefined if it can. */
function faultOfUse(architecture: Architecture, { pooling, imageSizePx }: InputContract): string | undefined {
  try {
    const description = describeEncoder(architecture);
    if (!description.poolings.includes(pooling)) return `${description.name} has no pooling ${pooling}`;
    return description.imageSizeFault(imageSizePx);
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

function publishedOfEntry(
  entry: z.infer<typeof entrySchema>,
  group: Pick<z.infer<typeof groupSchema>, 'inputContract' | 'trainingFacts'>,
): PublishedCheckpoint {
  const { slug, name, description, architecture, url, fileName, byteSize, sha256, licence, accessUrl } = entry;
  const ownNames = new Set(entry.trainingFacts.map((fact) => fact.name));
  return {
    slug,
    name,
    description,
    architecture,
    inputContract: entry.inputContract ?? group.inputContract,
    importedFrom: { url, fileName, byteSize, sha256, licence, accessUrl, contents: null },
    trainingFacts: [...entry.trainingFacts, ...group.trainingFacts.filter((fact) => !ownNames.has(fact.name))],
  };
}
