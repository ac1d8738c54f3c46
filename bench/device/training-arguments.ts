/** What the programs of the device bench are told about the training whose steps they take. */
import { z } from 'zod';
import { BENCHED_ENCODERS, type BenchedEncoder, type Precision } from './report.ts';

export interface TrainingArguments {
  readonly encoder: BenchedEncoder;
  readonly viewSidePx: number;
  readonly imageCount: number;
  readonly precision: Precision;
}

export function argumentsOf({ encoder, viewSidePx, imageCount, precision }: TrainingArguments): string[] {
  return [encoder, String(viewSidePx), String(imageCount), precision];
}

/** Those of this process, as `argumentsOf` gives them, and the words that follow them. */
export function parseArguments(words: readonly string[]): { training: TrainingArguments; rest: string[] } {
  const [encoder, viewSidePx, imageCount, precision, ...rest] = words;
  const training = z
    .object({
      encoder: z.enum(BENCHED_ENCODERS),
      viewSidePx: z.coerce.number().int().positive(),
      imageCount: z.coerce.number().int().positive(),
      precision: z.enum(['float32', 'bfloat16']),
    })
    .parse({ encoder, viewSidePx, imageCount, precision });
  return { training, rest };
}
