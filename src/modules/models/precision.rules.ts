/** What the dtype of the stored weights means for the embeddings, in words. Pure. */
import type { WeightsDtype } from '../../formats/encoders/index.ts';
import type { GoldenRecord } from '../../protocol/checkpoint.ts';

type Rounding = NonNullable<GoldenRecord['rounding']>;

/** @param rounding undefined while it is not measured. */
export function precisionSentence(weightsDtype: WeightsDtype, rounding: Rounding | undefined): string {
  const name = weightsDtype.toLowerCase();
  if (weightsDtype === 'FLOAT32') {
    const stored = `The weights are ${name}.`;
    if (rounding === undefined) return stored;
    return `${stored} ${rounding.map(roundedInWords).join(' ')}`;
  }
  const stored = `The weights are ${name}, computed in float32.`;
  const [own] = rounding ?? [];
  if (own === undefined || own.maxRelativeDifference === null) return stored;
  return `${stored} The weights before their rounding are not in the file; with weights drawn from those that round to these, the golden embedding moves by ${percent(own.maxRelativeDifference)} of its root mean square at most.`;
}

function roundedInWords({ dtype, maxRelativeDifference }: Rounding[number]): string {
  const name = dtype.toLowerCase();
  return maxRelativeDifference === null
    ? `Rounded to ${name}, they give no finite embedding.`
    : `Rounded to ${name}, they move the golden embedding by ${percent(maxRelativeDifference)} of its root mean square at most.`;
}

function percent(fraction: number): string {
  return `${Number((100 * fraction).toPrecision(2))}%`;
}
