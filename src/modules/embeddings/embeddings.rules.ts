/** The identity of a set of embeddings, and its file formats. Pure. */
import { createHash } from 'node:crypto';
import { csvField } from '../../formats/csv.ts';
import type { InputContract } from '../models/index.ts';

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
  return sha256Of(
    JSON.stringify([imageSizePx, resizeRule, channelOrder, valueRange, channelMean, channelStd, embeddingLayer]),
  );
}

/** Identifies a method without weights, e.g. `colour-statistics-1`; the number changes when the computation changes. */
export function digestOfMethod(name: string): string {
  return sha256Of(name);
}

export interface EmbeddedImage {
  readonly key: string;
  readonly label: string | null;
  readonly group: string | null;
  readonly split: string | null;
  readonly sourcePath: string | null;
}

/** CSV as in RFC 4180, one line for each row of the array, in the same order. */
export function idsCsvOf(images: readonly EmbeddedImage[]): string {
  const lines = images.map(({ key, label, group, split, sourcePath }) =>
    [key, label, group, split, sourcePath].map((value) => csvField(value ?? '')).join(','),
  );
  return `${['key,label,group,split,sourcePath', ...lines].join('\r\n')}\r\n`;
}

function sha256Of(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}
