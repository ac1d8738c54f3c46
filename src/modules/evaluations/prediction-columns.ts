/** The stored predictions of an evaluation as columns, read chunk by chunk: one object for each image is too many. */
import { createHash } from 'node:crypto';
import {
  classifiedSchema,
  createLineReader,
  regressedSchema,
  type LineReader,
  type PredictedImage,
} from './prediction-lines.ts';

const FIRST_CAPACITY = 1024;

export interface PredictionColumns {
  readonly imageCount: number;
  /** Of the keys of all images in their order: equal for the same images. */
  readonly keysDigest: string;
  /** `[N]`: what a resample draws whole. */
  readonly units: readonly string[];
  /** Number of known groups. */
  readonly groupCount: number;
  /** `[N]`: the place of the label among the names, -1 if it is none of them; of a regression the target. */
  readonly truth: Float64Array;
  /** `[N, K]` probabilities of the labels; of a regression `[N]`, the predicted numbers. */
  readonly predicted: Float64Array;
}

export interface PredictionReader extends Pick<LineReader, 'take'> {
  /** @throws SyntaxError or ZodError for the first line that is not a prediction of the evaluation's kind. */
  finish(): PredictionColumns;
}

/** @param labelNames of a classification; null for a regression. */
export function createPredictionReader(labelNames: readonly string[] | null): PredictionReader {
  const places = labelNames === null ? null : new Map(labelNames.map((name, place) => [name, place]));
  const keys = createHash('sha256');
  const units: string[] = [];
  /** One string for each unit, since every line brings another copy. */
  const knownUnits = new Map<string, string>();
  const groups = new Set<string>();
  const truth = createColumn();
  const predicted = createColumn();

  const lines = createLineReader((line) => {
    const parsed: unknown = JSON.parse(line);
    let image: PredictedImage;
    if (places === null) {
      const regressed = regressedSchema.parse(parsed);
      truth.push(regressed.target);
      predicted.push(regressed.predicted);
      image = regressed;
    } else {
      const classified = classifiedSchema.parse(parsed);
      truth.push(places.get(classified.label) ?? -1);
      for (const probability of classified.probabilities) predicted.push(probability);
      image = classified;
    }
    const { key, group, resamplingUnit } = image;
    // As JSON, so that no two lists of keys have the same bytes.
    keys.update(JSON.stringify(key));
    const unit = resamplingUnit ?? group ?? '';
    const known = knownUnits.get(unit) ?? unit;
    knownUnits.set(known, known);
    units.push(known);
    if (group !== null) groups.add(group);
  });
  return {
    take: lines.take,
    finish: () => {
      lines.finish();
      return {
        imageCount: units.length,
        keysDigest: keys.digest('hex'),
        units,
        groupCount: groups.size,
        truth: truth.values(),
        predicted: predicted.values(),
      };
    },
  };
}

/** Numbers whose count is not known before the last one. */
function createColumn(): { push(value: number): void; values(): Float64Array } {
  let held = new Float64Array(FIRST_CAPACITY);
  let count = 0;
  return {
    push: (value) => {
      if (count === held.length) {
        const larger = new Float64Array(2 * count);
        larger.set(held);
        held = larger;
      }
      held[count] = value;
      count += 1;
    },
    values: () => held.subarray(0, count),
  };
}
