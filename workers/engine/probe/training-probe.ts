/**
 * The cheap probe that measures an encoder during its pretraining: kNN and ridge regression on the embeddings of a
 * fixed subset of labelled images, divided by group. It is deterministic and uses its own random streams, so that a
 * training with a probe gives the same weights as one without.
 */
import { splitUnitOf, type ManifestImage } from '../data/manifest.ts';
import { createRandom, type Random } from '../rng.ts';
import { runClassification, type ClassificationInput, type ClassificationResult } from './classification.ts';
import { ProbeError } from './errors.ts';
import { nearestNeighbours } from './nearest-neighbours.ts';
import { ridgeClassifier } from './ridge-classifier.ts';
import { embeddedImages } from './scaling.ts';
import { planSplit } from './split.ts';

/** Enough images for a macro F1 to within 0.02, and few enough for a ResNet-18 to embed them in seconds. */
export const PROBE_IMAGES_MAX = 2000;
/** A label with fewer images cannot be learned and tested in every fold, and is left out. */
export const PROBE_FOLDS = 3;
/** The same seed for all runs, so that probes of different runs on one version are comparable. */
const PROBE_SEED = 0;

export type ProbeCandidate = Pick<ManifestImage, 'key' | 'label' | 'group' | 'sourcePath'>;

/** An array, or the images of a version. */
interface ProbeCandidates {
  readonly length: number;
  at(place: number): ProbeCandidate | undefined;
}

/**
 * Ascending indexes of at most `limit` labelled images: as many of each label as there are, up to equal numbers, and
 * within a label one image of each group in turn, so that many groups are covered. Labels of fewer than PROBE_FOLDS
 * images are left out. A pure function of the images and the stream.
 */
export function chooseProbeImages(images: ProbeCandidates, limit: number, random: Random): Int32Array {
  const places = Array.from({ length: images.length }, (_, place) => place);
  const byLabel = Map.groupBy(places, (place) => images.at(place)?.label ?? null);
  byLabel.delete(null);
  const queues = [...byLabel.entries()]
    .filter(([, ofLabel]) => ofLabel.length >= PROBE_FOLDS)
    .sort(([left], [right]) => ((left ?? '') < (right ?? '') ? -1 : 1))
    .map(([label, ofLabel]) => interleaveGroups(ofLabel, images, random.fork(`label ${label}`)));
  return Int32Array.from(roundRobin(queues).slice(0, limit)).sort();
}

function interleaveGroups(places: readonly number[], images: ProbeCandidates, random: Random): number[] {
  const byGroup = Map.groupBy(places, (place) => {
    const image = images.at(place);
    return image === undefined ? '' : splitUnitOf(image);
  });
  return roundRobin(random.shuffled([...byGroup.values()]).map((group) => random.shuffled(group)));
}

/** The first of each queue, then the second of each, and so on. */
function roundRobin(queues: readonly (readonly number[])[]): number[] {
  const longest = queues.reduce((length, queue) => Math.max(length, queue.length), 0);
  return Array.from({ length: longest }, (_, turn) => queues.flatMap((queue) => queue.slice(turn, turn + 1))).flat();
}

/**
 * How the probe's images are divided: by the version's own split, by folds over groups, or, if neither is possible, by
 * folds over images, which overestimates the score of every encoder.
 */
export type ProbeSplit = 'GIVEN' | 'GROUPS' | 'IMAGES';

export interface ProbeImage extends ProbeCandidate {
  readonly label: string;
  readonly split: string | null;
}

export interface ProbeResult {
  readonly ridge: ClassificationResult<object>;
  readonly nearest: ClassificationResult<object>;
}

export interface TrainingProbe {
  readonly split: ProbeSplit;
  readonly labelNames: readonly string[];
  /** Known groups among the images. */
  readonly groupCount: number;
  /** Images whose group is unknown. */
  readonly ungroupedImageCount: number;
  /**
   * @param embeddings `[N, D]` in the order of the images.
   * @param bootstrapResamples number of resamples for the ridge's interval; results with the same number are paired.
   * @throws ProbeError EMBEDDING_NOT_FINITE.
   */
  measure(embeddings: Float32Array, bootstrapResamples: number): Promise<ProbeResult>;
}

/** @throws ProbeError TOO_FEW_LABELS or TOO_FEW_IMAGES if there is nothing to train and test on. */
export function createTrainingProbe(images: readonly ProbeImage[]): TrainingProbe {
  const labelNames = [...new Set(images.map((image) => image.label))].sort();
  const places = new Map(labelNames.map((name, place) => [name, place]));
  const labels = Int32Array.from(images, (image) => places.get(image.label) ?? 0);
  const groups = images.map(splitUnitOf);
  const base = { labels, labelNames, folds: PROBE_FOLDS, seed: PROBE_SEED };
  const ways: readonly (readonly [ProbeSplit, ClassificationInput])[] = [
    ...(images.some(({ split }) => split !== null)
      ? [['GIVEN', { ...base, groups, splits: images.map(({ split }) => split) }] as const]
      : []),
    ['GROUPS', { ...base, groups }],
    ['IMAGES', { ...base, groups: images.map(({ key }) => key) }],
  ];
  const [split, input] = firstPossible(ways);
  return {
    split,
    labelNames,
    groupCount: new Set(images.flatMap(({ group }) => group ?? [])).size,
    ungroupedImageCount: images.filter(({ group }) => group === null).length,
    measure: async (embeddings, bootstrapResamples) => {
      const embedded = embeddedImages(embeddings, images.length);
      return {
        ridge: await runClassification({ ...input, bootstrapResamples }, ridgeClassifier(embedded, input, PROBE_SEED)),
        nearest: await runClassification(
          { ...input, bootstrapResamples: 0 },
          nearestNeighbours(embedded, input, PROBE_SEED),
        ),
      };
    },
  };
}

function firstPossible(
  ways: readonly (readonly [ProbeSplit, ClassificationInput])[],
): readonly [ProbeSplit, ClassificationInput] {
  let fault: unknown;
  for (const way of ways) {
    try {
      const [, input] = way;
      planSplit(input, input.splits, input.folds, input.seed);
      return way;
    } catch (error) {
      if (!(error instanceof ProbeError)) throw error;
      fault = error;
    }
  }
  throw fault;
}

/** The stream from which a version's probe images are drawn. @param digest of the version. */
export function probeRandom(digest: string): Random {
  return createRandom(PROBE_SEED).fork(`probe of ${digest}`);
}

/**
 * Steps between two probes if the launch does not specify it: a tenth of the run, or enough to keep the probes between
 * the first and the last step under about a twentieth of the run. An image of a probe costs one pass of the encoder, an
 * image of a step about six (two views, each forward and back).
 */
export function defaultProbeInterval({
  steps,
  batchSize,
  probeImageCount,
}: {
  readonly steps: number;
  readonly batchSize: number;
  readonly probeImageCount: number;
}): number {
  const cheapest = Math.ceil(probeImageCount / (PASSES_OF_A_STEP * batchSize * PROBE_SHARE_MAX));
  return Math.max(1, Math.ceil(steps / 10), cheapest);
}

const PASSES_OF_A_STEP = 6;
const PROBE_SHARE_MAX = 0.05;
