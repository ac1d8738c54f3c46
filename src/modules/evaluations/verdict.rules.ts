/** What an evaluation ranks by, and which baselines its result does not beat. Pure. */
import type { EvaluationProtocol } from '../../generated/prisma/enums.ts';
import type { BaselineKind, EvaluationBaselineRecord, EvaluationMetricRecord } from './evaluations.records.ts';

/** What a leaderboard ranks by; sign 1: more is better. */
export function rankingOf(protocol: EvaluationProtocol): { readonly metric: string; readonly sign: 1 | -1 } {
  return protocol === 'REGRESSION' ? { metric: 'meanAbsoluteError', sign: -1 } : { metric: 'macroF1', sign: 1 };
}

/**
 * Baselines that the result does not surely beat by the ranked metric: the 95 % interval of the difference holds 0 or
 * lies on the wrong side of it. Where there is no interval, as in older evaluations, the values are compared.
 */
export function unbeatenBaselines(
  protocol: EvaluationProtocol,
  metrics: readonly EvaluationMetricRecord[],
  baselines: readonly Pick<EvaluationBaselineRecord, 'kind' | 'metrics' | 'differences'>[],
): BaselineKind[] {
  const { metric, sign } = rankingOf(protocol);
  const named = (candidates: readonly EvaluationMetricRecord[]): EvaluationMetricRecord | undefined =>
    candidates.find(({ name }) => name === metric);
  const result = named(metrics);
  return baselines.flatMap((baseline) => {
    const [difference, other] = [named(baseline.differences), named(baseline.metrics)];
    const surely = sign === 1 ? difference?.ci95Low : difference?.ci95High;
    const margin =
      surely ?? difference?.value ?? (result === undefined || other === undefined ? null : result.value - other.value);
    return margin !== null && sign * margin <= 0 ? [baseline.kind] : [];
  });
}
