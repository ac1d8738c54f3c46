/** The stored predictions of an evaluation for the patches of one slide. */
import { DomainError } from '../../errors.ts';
import type { ReadPredictions } from './comparison.ts';
import type { SlidePredictionsRecord } from './evaluations.records.ts';
import { classifiedSchema, createLineReader, regressedSchema } from './prediction-lines.ts';

/** As our tasks write a line; one that was written otherwise is parsed to find its key. */
const KEY_OF_LINE = /^\{"key":"([^"\\]*)"/;

/** Scores become colours, and the stored predictions have the whole numbers: fewer digits make a small answer. */
const DIGITS = 4;

/**
 * Reads all predictions once and keeps those of the slide: memory grows with the slide, not with the version.
 * @param keys `[N]` of the patches of the slide, in their order.
 * @param labelNames of a classification, in the order of its probabilities; null for a regression.
 * @param label whose probability is the score; default: the last one.
 * @throws DomainError BAD_INPUT for a label that the evaluation does not have, SyntaxError or ZodError for a line of a
 * patch that is not a prediction of the evaluation's kind, and what the reading throws.
 */
export async function predictionsOfSlide(
  keys: readonly string[],
  read: ReadPredictions,
  labelNames: readonly string[] | null,
  label: string | null,
): Promise<SlidePredictionsRecord> {
  const chosen = labelNames === null ? null : (label ?? labelNames.at(-1) ?? null);
  const place = labelNames === null || chosen === null ? -1 : labelNames.indexOf(chosen);
  if (labelNames !== null && place < 0) throw noSuchLabel(label ?? '', labelNames);
  const placeOfLabel = new Map(labelNames?.map((name, index) => [name, index]));
  const rowOf = new Map(keys.map((key, row) => [key, row]));
  const predicted = Array.from<number | null>({ length: keys.length }).fill(null);
  const scores = Array.from<number | null>({ length: keys.length }).fill(null);
  const lines = createLineReader((line) => {
    const key = KEY_OF_LINE.exec(line)?.[1];
    if (key !== undefined && !rowOf.has(key)) return;
    const parsed: unknown = JSON.parse(line);
    if (labelNames === null) {
      const regressed = regressedSchema.parse(parsed);
      const row = rowOf.get(regressed.key);
      if (row !== undefined) scores[row] = Number(regressed.predicted.toPrecision(DIGITS));
      return;
    }
    const classified = classifiedSchema.parse(parsed);
    const row = rowOf.get(classified.key);
    if (row === undefined) return;
    predicted[row] = placeOfLabel.get(classified.predicted) ?? null;
    const probability = classified.probabilities[place];
    scores[row] = probability === undefined ? null : Number(probability.toFixed(DIGITS));
  });
  await read(lines.take);
  lines.finish();
  return { labelNames: labelNames ?? [], label: chosen, predicted, scores };
}

function noSuchLabel(label: string, labelNames: readonly string[]): DomainError {
  return new DomainError({
    code: 'BAD_INPUT',
    message: `The evaluation has no label ${JSON.stringify(label)}.`,
    field: 'label',
    hint: `Its labels are ${labelNames.map((name) => JSON.stringify(name)).join(', ')}.`,
  });
}
