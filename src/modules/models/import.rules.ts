/** Validation of checkpoint imports and their error codes. Pure. */
import { z } from 'zod';
import { DomainError } from '../../errors.ts';
import { NAMED_ENCODERS, POOLINGS } from '../../formats/encoders/index.ts';
import { idempotencyKeySchema } from '../../input.ts';
import { modelNameSchema, modelTextSchema, slugSchema } from './models.rules.ts';
import { embeddingLayerOf, inputContractSchema, type InputContract } from '../../protocol/checkpoint.ts';

/** Values that most encoders share; the engine supports no others. */
const COMMON_CONTRACT = {
  resizeRule: 'SHORT_SIDE_THEN_CENTRE_CROP',
  channelOrder: 'RGB',
  valueRange: [0, 1],
  micronsPerPixelMin: null,
  micronsPerPixelMax: null,
} as const;

const contractInputSchema = z
  .record(z.string(), z.unknown())
  .transform((given): unknown => {
    const stated = Object.fromEntries(
      Object.entries(given).filter(([, value]) => value !== null && value !== undefined),
    );
    // The schema after this one refuses a pooling that there is not.
    const pooling = z.enum(POOLINGS).catch('AVGPOOL').parse(stated['pooling']);
    return { ...COMMON_CONTRACT, embeddingLayer: embeddingLayerOf(pooling), ...stated };
  })
  .pipe(inputContractSchema);

export const sha256Schema = z
  .string()
  .toLowerCase()
  .regex(/^[0-9a-f]{64}$/, 'must be 64 hexadecimal digits');

export const importCheckpointSchema = z.strictObject({
  modelSlug: slugSchema.nullish(),
  path: z.string().min(1, 'must not be empty').max(4096).nullish(),
  url: z.string().min(1, 'must not be empty').max(4096).nullish(),
  uploadId: z.string().max(100).nullish(),
  sha256: sha256Schema.nullish(),
  encoder: z.enum(NAMED_ENCODERS).nullish(),
  specification: z.record(z.string().max(100), z.json()).nullish(),
  keyPrefix: z
    .string()
    .max(500)
    .regex(/^(.+\.)?$/, 'must end in a dot, e.g. model.resnet.')
    .nullish(),
  inputContract: contractInputSchema.nullish(),
  name: modelNameSchema.min(1, 'must not be empty').nullish(),
  description: modelTextSchema(10_000).nullish(),
  licence: modelNameSchema.nullish(),
  publishedCheckpoint: slugSchema.nullish(),
  idempotencyKey: idempotencyKeySchema.nullish(),
  validateOnly: z.boolean().nullish(),
});
export type ImportCheckpointInput = z.infer<typeof importCheckpointSchema>;

/** The source of the bytes. */
export type ImportSource =
  | { readonly kind: 'PATH'; readonly path: string }
  | { readonly kind: 'URL'; readonly url: string }
  | { readonly kind: 'UPLOAD'; readonly uploadId: string };

/** The input field that names the source. */
export function fieldOfSource(source: ImportSource): string {
  switch (source.kind) {
    case 'PATH':
      return 'input.path';
    case 'URL':
      return 'input.url';
    case 'UPLOAD':
      return 'input.uploadId';
  }
}

export type ImportChoice =
  | {
      readonly kind: 'OWN';
      readonly modelSlug: string;
      readonly inputContract: InputContract;
      readonly source: ImportSource;
    }
  /** Without a source, the URL in the catalogue is used. */
  | { readonly kind: 'PUBLISHED'; readonly slug: string; readonly source: ImportSource | undefined }
  /** The file must be one that the catalogue of published checkpoints knows. */
  | { readonly kind: 'RECOGNISED'; readonly source: ImportSource };

/**
 * Validates an import before its bytes exist, for a client that is about to upload them. @throws as `importChoice`,
 * except for a missing source.
 */
export function validateImport(input: ImportCheckpointInput): void {
  const { path, url, uploadId, publishedCheckpoint } = input;
  if (publishedCheckpoint != null || path != null || url != null || uploadId != null) importChoice(input);
  else if (!isOnlyFile(input)) ownModel(input);
}

/** The input says nothing about a model, so that the file itself must be one that the catalogue knows. */
function isOnlyFile(input: ImportCheckpointInput): boolean {
  return (['modelSlug', 'inputContract', 'name', 'description', 'licence'] as const).every(
    (field) => input[field] == null,
  );
}

/**
 * Decides which kind of import the input requests. @throws DomainError BAD_INPUT, or
 * CHECKPOINT_INCOMPATIBLE for a contract that the engine does not support.
 */
export function importChoice(input: ImportCheckpointInput): ImportChoice {
  const { modelSlug, path, url, uploadId, publishedCheckpoint } = input;
  const sources: readonly ImportSource[] = [
    ...(path == null ? [] : [{ kind: 'PATH', path } as const]),
    ...(url == null ? [] : [{ kind: 'URL', url } as const]),
    ...(uploadId == null ? [] : [{ kind: 'UPLOAD', uploadId } as const]),
  ];
  const [source, second] = sources;
  if (second !== undefined)
    throw badInput('Give one of path, url and uploadId.', fieldOfSource(second), 'Leave the others out.');
  if (publishedCheckpoint != null) {
    for (const field of ['inputContract', 'name', 'description', 'licence'] as const) {
      if (input[field] != null)
        throw badInput(
          `${field} cannot be given for a published checkpoint, because the catalogue has it.`,
          `input.${field}`,
          'Leave it out.',
        );
    }
    if (modelSlug != null && modelSlug !== publishedCheckpoint)
      throw badInput(
        `A published checkpoint can only be in its own model, "${publishedCheckpoint}".`,
        'input.modelSlug',
        'Leave it out.',
      );
    return { kind: 'PUBLISHED', slug: publishedCheckpoint, source };
  }
  if (isOnlyFile(input) && source !== undefined) return { kind: 'RECOGNISED', source };
  const own = ownModel(input);
  if (source === undefined)
    throw badInput(
      'Give one of path, url and uploadId.',
      'input.path',
      'path: a file below an import root. url: fetched by the server. uploadId: an upload that was begun with POST /uploads.',
    );
  return { kind: 'OWN', ...own, source };
}

/** The target model of an import that is not from the catalogue, and its plausibility-checked contract. */
function ownModel({ modelSlug, inputContract }: ImportCheckpointInput): {
  readonly modelSlug: string;
  readonly inputContract: InputContract;
} {
  if (modelSlug == null)
    throw badInput(
      'modelSlug is missing.',
      'input.modelSlug',
      'Give a slug (a new model is created), or a publishedCheckpoint.',
    );
  if (inputContract == null) {
    throw badInput(
      'inputContract is missing: weights cannot be used without knowing how to preprocess images.',
      'input.inputContract',
      'Give at least imageSizePx, channelMean and channelStd, as the training used them.',
    );
  }
  checkContractIsSupported(inputContract);
  checkNormalisation(inputContract);
  return { modelSlug, inputContract };
}

/**
 * Smallest standard deviation, as a fraction of the width of the value range: below 1/255, which some contracts use on
 * purpose to scale values back to 0..255, and far below the standard deviation of any images.
 */
const MIN_STD_SHARE = 0.003;

/**
 * A mean or standard deviation that is impossible for images of this value range belongs to another range or is a
 * typing error.
 */
function checkNormalisation({ valueRange: [low, high], channelMean, channelStd }: InputContract): void {
  const width = high - low;
  const hint = (values: readonly number[]): string =>
    values.some((value) => value > high) && values.every((value) => value >= 0 && value <= 255)
      ? `The values seem to be for 0..255; divided by 255 they are ${values.map((value) => (value / 255).toFixed(3)).join(', ')}.`
      : 'Use the values of the training, e.g. 0.485, 0.456, 0.406 and 0.229, 0.224, 0.225 for ImageNet.';
  if (channelMean.some((mean) => mean < low || mean > high))
    throw badInput(
      `The mean ${channelMean.join(', ')} is outside the value range ${low}..${high}.`,
      'input.inputContract.channelMean',
      hint(channelMean),
    );
  if (channelStd.some((std) => std > width))
    throw badInput(
      `The standard deviation ${channelStd.join(', ')} is larger than the value range ${low}..${high}.`,
      'input.inputContract.channelStd',
      hint(channelStd),
    );
  if (channelStd.some((std) => std < MIN_STD_SHARE * width))
    throw badInput(
      `The standard deviation ${channelStd.join(', ')} is too close to 0: every pixel would become a huge number.`,
      'input.inputContract.channelStd',
      hint(channelStd),
    );
}

/** The engine has one way to prepare images; under another contract its embeddings would be wrong without any error. */
function checkContractIsSupported(contract: InputContract): void {
  const [low, high] = contract.valueRange;
  const refuse = (field: string, message: string, hint: string): never => {
    throw new DomainError({ code: 'CHECKPOINT_INCOMPATIBLE', message, field: `input.inputContract.${field}`, hint });
  };
  if (low !== 0 || high !== 1)
    refuse(
      'valueRange',
      'Only the value range 0..1 is supported.',
      'Convert mean and standard deviation: divide those for 0..255 by 255.',
    );
  if (contract.channelOrder !== 'RGB')
    refuse(
      'channelOrder',
      'Only RGB encoders are supported.',
      'Reverse the input channels of conv1.weight, channelMean and channelStd.',
    );
  if (contract.resizeRule !== COMMON_CONTRACT.resizeRule)
    refuse(
      'resizeRule',
      `Only ${COMMON_CONTRACT.resizeRule} is supported.`,
      'Leave it out if the encoder was trained on square patches, for which both rules are equal.',
    );
  const embeddingLayer = embeddingLayerOf(contract.pooling);
  if (contract.embeddingLayer !== embeddingLayer)
    refuse(
      'embeddingLayer',
      `Only the output of ${embeddingLayer} is supported as embedding.`,
      `Leave it out, or use ${embeddingLayer}.`,
    );
}

function badInput(message: string, field: string, hint?: string): DomainError {
  return new DomainError({ code: 'BAD_INPUT', message, field, ...(hint === undefined ? {} : { hint }) });
}

/** The URL as recorded: without query and fragment, because a signed URL is a secret. */
export function recordedUrl(url: string): string {
  const { origin, pathname } = new URL(url);
  return `${origin}${pathname}`;
}

/** The last part of a URL's path, as a name to show; null if there is none. */
export function fileNameOfUrl(url: string): string | null {
  const last = new URL(url).pathname.split('/').at(-1) ?? '';
  try {
    return (
      decodeURIComponent(last)
        .replaceAll(/[\p{Cc}/\\]/gu, '_')
        .slice(0, 200) || null
    );
  } catch {
    return last.slice(0, 200);
  }
}
