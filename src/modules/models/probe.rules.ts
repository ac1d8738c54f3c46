/** The result of a pretraining's own probe, and the sentence that states it. Pure. */
import { z } from 'zod';

export const PROBE_SPLITS = ['GIVEN', 'GROUPS', 'IMAGES'] as const;

/** Macro F1 of the two probes, 0..1. */
const probeScoresSchema = z.object({ ridgeMacroF1: z.number(), knnMacroF1: z.number() });
/** With its 95 % interval, by a bootstrap over groups that draws the same resamples for both sides. */
const pairedDifferenceSchema = z.object({ value: z.number(), ci95Low: z.number(), ci95High: z.number() });
export type PairedDifference = z.infer<typeof pairedDifferenceSchema>;

export const checkpointProbeSchema = probeScoresSchema.extend({
  datasetVersionId: z.string(),
  /** `slug@version` at the launch of the run. */
  datasetVersionName: z.string(),
  /** Images of the fixed subset. */
  imageCount: z.number().int(),
  /** Groups among them; an image without one counts as one. */
  groupCount: z.number().int(),
  split: z.enum(PROBE_SPLITS),
  /** Training steps of the encoder until the probe. */
  step: z.number().int(),
  randomEncoder: probeScoresSchema,
  colourStatistics: probeScoresSchema,
  /** Of the ridge's macro F1. */
  overRandomEncoder: pairedDifferenceSchema,
  overColourStatistics: pairedDifferenceSchema,
  /** Images of the probe that the training sees too, without their labels. */
  sharedImageCount: z.number().int(),
  /** Groups of the probe that the training sees too. */
  sharedGroupCount: z.number().int(),
});
export type CheckpointProbeRecord = z.infer<typeof checkpointProbeSchema>;

export const PROBE_VERDICTS = ['BETTER', 'WORSE', 'NOT_DISTINGUISHABLE'] as const;
export type ProbeVerdict = (typeof PROBE_VERDICTS)[number];

/** BETTER or WORSE where the interval excludes 0. */
export function verdictOf({ ci95Low, ci95High }: PairedDifference): ProbeVerdict {
  if (ci95Low > 0) return 'BETTER';
  return ci95High < 0 ? 'WORSE' : 'NOT_DISTINGUISHABLE';
}

/**
 * e.g. "worse than a random encoder on kather@1 by 0.063 (95 % interval 0.040 to 0.086), better than colour statistics
 * by 0.021 (0.002 to 0.040)": begins in lower case, ends without a full stop. Differences of macro F1.
 */
export function probeSentence(probe: CheckpointProbeRecord): string {
  const { overRandomEncoder, overColourStatistics, datasetVersionName } = probe;
  return [
    comparison('a random encoder', overRandomEncoder, {
      where: ` on ${datasetVersionName}`,
      interval: '95 % interval ',
    }),
    comparison('colour statistics', overColourStatistics, { where: '', interval: '' }),
  ].join(', ');
}

function comparison(
  other: string,
  difference: PairedDifference,
  { where, interval }: { readonly where: string; readonly interval: string },
): string {
  const { value, ci95Low, ci95High } = difference;
  const range = (low: number, high: number): string => `(${interval}${low.toFixed(3)} to ${high.toFixed(3)})`;
  switch (verdictOf(difference)) {
    case 'BETTER':
      return `better than ${other}${where} by ${value.toFixed(3)} ${range(ci95Low, ci95High)}`;
    case 'WORSE':
      return `worse than ${other}${where} by ${(-value).toFixed(3)} ${range(-ci95High, -ci95Low)}`;
    case 'NOT_DISTINGUISHABLE':
      return `not distinguishable from ${other}${where}: ${value.toFixed(3)} ${range(ci95Low, ci95High)}`;
  }
}

/** How far the training and the probe overlap; null where they do not. */
export function probeOverlapSentence({
  imageCount,
  sharedImageCount,
  groupCount,
  sharedGroupCount,
}: Pick<CheckpointProbeRecord, 'imageCount' | 'sharedImageCount' | 'groupCount' | 'sharedGroupCount'>): string | null {
  if (sharedImageCount === 0 && sharedGroupCount === 0) return null;
  return `${sharedImageCount} of the probe's ${imageCount} images and ${sharedGroupCount} of its ${groupCount} groups are also in the training, without their labels: on images of other patients the encoder may be worse than the probe says.`;
}

/** What to try for an encoder that is no better than a random one; null for one that is. */
export function probeAdvice(probe: CheckpointProbeRecord): string | null {
  return verdictOf(probe.overRandomEncoder) === 'BETTER'
    ? null
    : 'Train longer (a larger budget or more epochs), on more images, or register the state of the best probe.';
}
