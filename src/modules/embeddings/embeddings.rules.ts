/** The identity of a set of embeddings, and its file formats. Pure. */
import { createHash } from 'node:crypto';
import { csvField } from '../../formats/csv.ts';
import type { InputContract } from '../models/index.ts';
import type { EmbeddingKey } from './embeddings.records.ts';

export const NPY_MEDIA_TYPE = 'application/x-npy';
export const IDS_MEDIA_TYPE = 'text/csv; charset=utf-8';

/** NPY: the numbers. CSV: which image each row is. */
export type EmbeddingFileFormat = 'npy' | 'csv';

/**
 * sha256 over the fields of a contract that affect image preparation. Its resolution is left out, because it changes no
 * pixel.
 */
export function preparationDigestOf(contract: InputContract): string {
  const { imageSizePx, resizeRule, channelOrder, valueRange, channelMean, channelStd, embeddingLayer } = contract;
  const { pooling } = contract;
  return sha256Of(
    JSON.stringify([
      imageSizePx,
      resizeRule,
      channelOrder,
      valueRange,
      channelMean,
      channelStd,
      embeddingLayer,
      ...interpolationKey(contract),
      // Left out where contracts of the first version imply it, so that sets from before are still found.
      ...(pooling === 'AVGPOOL' ? [] : [pooling]),
    ]),
  );
}

/** Empty for the interpolation that contracts of the first version imply. */
function interpolationKey({ interpolation }: Pick<InputContract, 'interpolation'>): string[] {
  return interpolation === 'BILINEAR' ? [] : [interpolation];
}

/**
 * The seed of the random encoder, which is the same in every evaluation: the embeddings of one architecture with one
 * preparation on one version are computed once, and every checkpoint is compared with the same baseline.
 */
export const RANDOM_ENCODER_SEED = 1;

/** Increase this number when the computation changes. */
const COLOUR_METHOD = 'colour-statistics-1';

/**
 * The part of a key that identifies colour statistics. They are measured on the pixels that an encoder sees, but
 * before its normalisation, so all encoders of one image size share them.
 */
export function colourStatisticsKey({
  imageSizePx,
  resizeRule,
  interpolation,
}: Pick<InputContract, 'imageSizePx' | 'resizeRule' | 'interpolation'>): Pick<
  EmbeddingKey,
  'encoderDigest' | 'preparationDigest'
> {
  return {
    encoderDigest: sha256Of(COLOUR_METHOD),
    preparationDigest: sha256Of(JSON.stringify([imageSizePx, resizeRule, ...interpolationKey({ interpolation })])),
  };
}

export interface EmbeddedImage {
  readonly key: string;
  readonly label: string | null;
  readonly group: string | null;
  readonly split: string | null;
  readonly sourcePath: string | null;
}

const CSV_LINES_PER_CHUNK = 1000;

/** CSV as in RFC 4180, one line for each row of the array, in the same order; in chunks of a thousand lines. */
export function* idsCsvChunks(images: Iterable<EmbeddedImage>): Generator<Buffer, void> {
  let lines = ['key,label,group,split,sourcePath\r\n'];
  for (const { key, label, group, split, sourcePath } of images) {
    lines.push(`${[key, label, group, split, sourcePath].map((value) => csvField(value ?? '')).join(',')}\r\n`);
    if (lines.length < CSV_LINES_PER_CHUNK) continue;
    yield Buffer.from(lines.join(''));
    lines = [];
  }
  yield Buffer.from(lines.join(''));
}

function sha256Of(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}
