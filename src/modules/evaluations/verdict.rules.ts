/** The ranked metric of an evaluation, and the baselines that its result does not beat. Pure. */
import type { EvaluationProtocol } from '../../generated/prisma/enums.ts';
import type { BaselineKind, EvaluationBaselineRecord, EvaluationMetricRecord } from '../../protocol/evaluation.ts';

/** The metric that a leaderboard ranks by; sign 1 means that higher is better. */
export function rankingOf(protocol: EvaluationProtocol): { readonly metric: string; readonly sign: 1 | -1 } {
  return protocol === 'REGRESSION' ? { metric: 'meanAbsoluteError', sign: -1 } : { metric: 'macroF1', sign: 1 };
}

/**
 * Baselines that the result does not significantly beat by the ranked metric: the 95 % interval of the difference
 * contains 0 or lies on the wrong side of it. Without an interval, as in older evaluations, the values are compared.
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
    const intervalBound = sign === 1 ? difference?.ci95Low : difference?.ci95High;
    const margin =
      intervalBound ??
      difference?.value ??
      (result === undefined || other === undefined ? null : result.value - other.value);
    return margin !== null && sign * margin <= 0 ? [baseline.kind] : [];
  });
}
