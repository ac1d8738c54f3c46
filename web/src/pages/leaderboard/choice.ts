/** Chooses the leaderboard to show. Pure. */
import type { PROTOCOLS } from '../../app/choices.ts';

type Protocol = (typeof PROTOCOLS)[number];

/** The fields of an evaluation that identify its leaderboard. */
interface EvaluationReference {
  readonly protocol: Protocol;
  readonly datasetVersion: { readonly id: string };
}

/**
 * The chosen version, even if it is not the newest of its dataset. Without a choice, the version of the newest
 * evaluation, because the alphabetically first one may have no evaluations.
 *
 * @param latestIds the latest labelled version of each dataset.
 * @param newest the newest evaluation, if there is one.
 * @returns undefined if there is no version.
 */
export function versionOf(
  latestIds: readonly string[],
  chosen: string | undefined,
  newest: EvaluationReference | undefined,
): string | undefined {
  return chosen ?? newest?.datasetVersion.id ?? latestIds[0];
}

/** The chosen protocol, or the one of the version's latest evaluation. */
export function protocolOf(chosen: Protocol | undefined, newestOnVersion: EvaluationReference | undefined): Protocol {
  return chosen ?? newestOnVersion?.protocol ?? 'LINEAR_PROBE';
}

/** Other boards that are not empty, each once, in the order of their newest evaluation. */
export function otherBoards<Evaluation extends EvaluationReference>(
  evaluations: readonly Evaluation[],
  shown: { readonly versionId: string; readonly protocol: Protocol },
): Evaluation[] {
  const boards = new Map<string, Evaluation>();
  for (const evaluation of evaluations) {
    const key = `${evaluation.datasetVersion.id} ${evaluation.protocol}`;
    if (!boards.has(key)) boards.set(key, evaluation);
  }
  boards.delete(`${shown.versionId} ${shown.protocol}`);
  return [...boards.values()];
}
