/** The options of each protocol, with its ranges and defaults. Pure. */
import { z } from 'zod';
import { DomainError } from '../../errors.ts';
import { parseInput } from '../../input.ts';
import {
  curveOptionsSchema,
  EVALUATION_PROTOCOLS,
  fineTuningOptionsSchema,
  regressionOptionsSchema,
  type EvaluationConfig,
} from '../../protocol/evaluation.ts';

export type EvaluationProtocolName = (typeof EVALUATION_PROTOCOLS)[number];
export type EvaluationOptions = EvaluationConfig['options'];

/**
 * Options with their defaults filled in. @throws DomainError BAD_INPUT at `input.options`, also for an option of
 * another protocol.
 */
export function optionsOf(protocol: EvaluationProtocolName, options: unknown): EvaluationOptions {
  // Some clients send null for every field that they do not set; null therefore counts as left out.
  const wrapped = { options: options ?? {} };
  switch (protocol) {
    case 'LINEAR_PROBE':
    case 'KNN':
      return parseInput(z.object({ options: curveOptionsSchema }), wrapped).options;
    case 'FINE_TUNE':
      return parseInput(z.object({ options: fineTuningOptionsSchema }), wrapped).options;
    case 'REGRESSION':
      return parseInput(z.object({ options: regressionOptionsSchema }), wrapped).options;
    default:
      throw new DomainError({
        code: 'BAD_INPUT',
        message: 'The evaluation protocol is unknown.',
        field: 'input.protocol',
        hint: `Use one of ${EVALUATION_PROTOCOLS.join(', ')}.`,
      });
  }
}
