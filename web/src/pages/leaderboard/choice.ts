/** Which board is shown. Pure. */
import type { PROTOCOLS } from '../../app/choices.ts';

type Protocol = (typeof PROTOCOLS)[number];

/** An evaluation as far as it says where something is. */
interface Happening {
  readonly protocol: Protocol;
  readonly datasetVersion: { readonly id: string };
}

/**
 * The version that was chosen, whether it is the newest of its dataset or not; where nobody has chosen, the one on
 * which something happened last, as the first of the alphabet may be empty.
 *
 * @param latestIds the latest labelled version of each dataset.
 * @param newest the newest evaluation, where there is one.
 * @returns undefined where there is no version at all.
 */
export function versionOf(
  latestIds: readonly string[],
  chosen: string | undefined,
  newest: Happening | undefined,
): string | undefined {
  return chosen ?? newest?.datasetVersion.id ?? latestIds[0];
}

/** The protocol that was chosen, or the one by which the version was evaluated last. */
export function protocolOf(chosen: Protocol | undefined, newestOnVersion: Happening | undefined): Protocol {
  return chosen ?? newestOnVersion?.protocol ?? 'LINEAR_PROBE';
}

/** Other boards that are not empty, each once, in the order of their newest evaluation. */
export function otherBoards<Evaluation extends Happening>(
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
