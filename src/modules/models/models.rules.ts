/** Validation of the names of models and aliases. Pure. */
import { z } from 'zod';
import { DomainError } from '../../errors.ts';

/** SAFETENSORS is what is stored; the others are made from it. */
export const WEIGHTS_FORMATS = ['SAFETENSORS', 'PYTORCH', 'ONNX', 'TFJS'] as const;
export type WeightsFormat = (typeof WEIGHTS_FORMATS)[number];

/** No media type is registered for safetensors; browsers download this generic one instead of showing it. */
export const SAFETENSORS_MEDIA_TYPE = 'application/octet-stream';

/** The recorded other contents of an imported file; see `ImportedContentsRecord`. */
export const importedContentsSchema = z.object({
  format: z.enum(['SAFETENSORS', 'TORCH_ZIP', 'TORCH_LEGACY']),
  keyPrefix: z.string(),
  inertGlobals: z.array(z.string()),
  projectionHead: z.object({ hiddenDim: z.number(), projectionDim: z.number() }).nullable(),
  classifier: z.object({ classCount: z.number() }).nullable(),
  ignoredParts: z.array(z.string()),
  scalars: z.array(z.object({ path: z.string(), value: z.union([z.string(), z.number(), z.boolean(), z.null()]) })),
});

export const externalSourceSchema = z.object({
  url: z.string().nullable().default(null),
  fileName: z.string().nullable().default(null),
  byteSize: z.number().nullable().default(null),
  sha256: z.string().nullable().default(null),
  licence: z.string().nullable().default(null),
  accessUrl: z.string().nullable().default(null),
  contents: importedContentsSchema.nullable().default(null),
});

export const trainingFactSchema = z.strictObject({
  name: z.string().min(1),
  value: z.string().nullable(),
  evidence: z.enum(['READ', 'SECOND_HAND']).nullable(),
  sources: z.array(z.string()),
});

export const slugSchema = z
  .string()
  .max(100, 'must have at most 100 characters')
  .regex(/^[a-z0-9]+(-[a-z0-9]+)*$/, 'must consist of lower-case words joined by hyphens, e.g. tissue-resnet18');
export const modelTextSchema = (length: number) =>
  z.string().trim().max(length, `must have at most ${length} characters`);
export const modelNameSchema = modelTextSchema(200).regex(/^\P{Cc}*$/u, 'must be one line without control characters');

export const createModelSchema = z.strictObject({
  slug: slugSchema,
  name: modelNameSchema.min(1, 'must not be empty'),
  description: modelTextSchema(10_000).nullish(),
  licence: modelNameSchema.nullish(),
});

const aliasNameSchema = z
  .string()
  .max(50, 'must have at most 50 characters')
  .regex(
    /^[a-z][a-z0-9]*(-[a-z0-9]+)*$/,
    'must consist of lower-case words joined by hyphens that begin with a letter, e.g. champion',
  )
  .regex(/^(?!v\d+$)/, 'must not look like a version number');

export const setModelAliasSchema = z.strictObject({
  modelId: z.string().nullish(),
  modelSlug: z.string().nullish(),
  name: aliasNameSchema,
  checkpointId: z.string().nullish(),
});

/** Requires exactly one of id and slug, for queries that accept either. */
export function oneReference(
  reference: { readonly id?: string | null | undefined; readonly slug?: string | null | undefined },
  fields: { readonly id: string; readonly slug: string },
): { id: string } | { slug: string } {
  const { id, slug } = reference;
  if (typeof id === 'string' && slug == null) return { id };
  if (typeof slug === 'string' && id == null) return { slug };
  throw new DomainError({
    code: 'BAD_INPUT',
    message: `Give exactly one of ${fields.id} and ${fields.slug}.`,
    field: fields.id,
    hint: 'Each of them identifies one model.',
  });
}

const FILE_ENDINGS: Readonly<Record<WeightsFormat, string>> = {
  SAFETENSORS: 'safetensors',
  PYTORCH: 'pt',
  ONNX: 'onnx',
  TFJS: 'tfjs.zip',
};

/** The file name, made of slug, version and encoder, which are all ASCII: e.g. `tissue-v3-resnet18.safetensors`. */
export function weightsFileName(modelSlug: string, version: number, encoder: string, format: WeightsFormat): string {
  return `${modelSlug}-v${version}-${encoder.toLowerCase()}.${FILE_ENDINGS[format]}`;
}
