/** The lines of the stored predictions of an evaluation, a JSON text for each tested image. */
import { z } from 'zod';

// Evaluations made before unknown groups were null have no resampling unit beside the group.
const predictedSchema = z.object({
  key: z.string(),
  group: z.string().nullable(),
  resamplingUnit: z.string().optional(),
});
export type PredictedImage = z.infer<typeof predictedSchema>;

export const classifiedSchema = predictedSchema.extend({
  label: z.string(),
  predicted: z.string(),
  probabilities: z.array(z.number()),
});
export const regressedSchema = predictedSchema.extend({ target: z.number(), predicted: z.number() });

const NEWLINE = 0x0a;

export interface LineReader {
  /** The next bytes of the stored JSON lines, divided anywhere. Throws nothing: the bytes are read to their end. */
  take(bytes: Uint8Array): void;
  /** Throws what the first line that was not accepted has thrown; later lines are not passed on. */
  finish(): void;
}

/** @param accept is given each line that is not empty; it may throw. */
export function createLineReader(accept: (line: string) => void): LineReader {
  let rest = new Uint8Array(0);
  let fault: { readonly error: unknown } | undefined;
  const addLine = (bytes: Uint8Array): void => {
    if (bytes.length === 0 || fault !== undefined) return;
    try {
      accept(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf8'));
    } catch (error) {
      // Kept until the end: where the bytes are damaged, the reading itself says so when it has compared their digest.
      fault = { error };
    }
  };
  return {
    take: (bytes) => {
      const all = rest.length === 0 ? bytes : Buffer.concat([rest, bytes]);
      let start = 0;
      for (let end = all.indexOf(NEWLINE); end >= 0; end = all.indexOf(NEWLINE, start)) {
        addLine(all.subarray(start, end));
        start = end + 1;
      }
      // A copy, because the caller uses its bytes again; the slice of a Buffer is none.
      rest = new Uint8Array(all.subarray(start));
    },
    finish: () => {
      addLine(rest);
      if (fault !== undefined) throw fault.error;
    },
  };
}
