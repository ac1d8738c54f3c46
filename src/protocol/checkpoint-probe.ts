/** The result of a pretraining's own probe, and the sentence that states it. */
import { z } from 'zod';
import { areGroupsKnown } from '../statistics/interval-caveat.rules.ts';

export const PROBE_SPLITS = ['GIVEN', 'GROUPS', 'IMAGES'] as const;

/** Macro F1 of the two probes, 0..1. */
const probeScoresSchema = z.object({ ridgeMacroF1: z.number(), knnMacroF1: z.number() });
/** A difference with its 95 % interval, from a bootstrap over groups that draws the same resamples for both sides. */
const pairedDifferenceSchema = z.object({ value: z.number(), ci95Low: z.number(), ci95High: z.number() });
export type PairedDifference = z.infer<typeof pairedDifferenceSchema>;

export const checkpointProbeSchema = probeScoresSchema.extend({
  datasetVersionId: z.string(),
  /** The version's name `slug@version` when the run was launched. */
  datasetVersionName: z.string(),
  /** Number of images in the fixed subset. */
  imageCount: z.number().int(),
  /** Number of known groups among them; in older probes, images without a group count too. */
  groupCount: z.number().int(),
  /** Number of images among them whose group is unknown; null in older probes. */
  ungroupedImageCount: z.number().int().nullable().default(null),
  split: z.enum(PROBE_SPLITS),
  /** Training steps of the encoder until the probe. */
  step: z.number().int(),
  randomEncoder: probeScoresSchema,
  colourStatistics: probeScoresSchema,
  /** Differences of the ridge probe's macro F1. */
  overRandomEncoder: pairedDifferenceSchema,
  overColourStatistics: pairedDifferenceSchema,
  /** Number of the probe's images that the training also uses, without their labels. */
  /** Null if one of the versions was sealed before images were hashed. */
  sharedImageCount: z.number().int().nullable(),
  /** Number of the probe's groups that the training also uses. */
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
 * by 0.021 (0.002 to 0.040)": begins in lower case, ends without a full stop. Differences of macro F1. Intervals that
 * are too narrow because groups are unknown are called so.
 */
export function probeSentence(probe: CheckpointProbeRecord): string {
  const { overRandomEncoder, overColourStatistics, datasetVersionName, ungroupedImageCount, imageCount } = probe;
  const isTooNarrow = areGroupsKnown(ungroupedImageCount) === false;
  return [
    comparison('a random encoder', overRandomEncoder, {
      where: ` on ${datasetVersionName}`,
      interval: '95 % interval ',
    }),
    comparison('colour statistics', overColourStatistics, { where: '', interval: '' }),
    ...(isTooNarrow
      ? [
          `with intervals that are too narrow, because the patient or slide of ${ungroupedImageCount} of ${imageCount} images is not known`,
        ]
      : []),
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

/** A sentence about the overlap of the training and the probe; null if there is none. */
export function probeOverlapSentence({
  imageCount,
  sharedImageCount,
  groupCount,
  sharedGroupCount,
}: Pick<CheckpointProbeRecord, 'imageCount' | 'sharedImageCount' | 'groupCount' | 'sharedGroupCount'>): string | null {
  if (sharedImageCount === 0 && sharedGroupCount === 0) return null;
  const groups = groupCount === 0 ? '' : ` and ${sharedGroupCount} of its ${groupCount} groups`;
  return `${sharedImageCount ?? 'An unknown number'} of the probe's ${imageCount} images${groups} are also in the training, without their labels: on images of other patients the encoder may be worse than the probe says.`;
}

/** What to try for an encoder that is no better than a random one; null for one that is. */
export function probeAdvice(probe: CheckpointProbeRecord): string | null {
  return verdictOf(probe.overRandomEncoder) === 'BETTER'
    ? null
    : 'Train longer (a larger budget or more epochs), on more images, or register the state of the best probe.';
}
