/** Which board is shown. Pure. */
import type { PROTOCOLS } from '../../app/choices.ts';

type Protocol = (typeof PROTOCOLS)[number];

export interface Board<Version> {
  readonly version: Version;
  readonly protocol: Protocol;
}

/**
 * What was chosen; where nobody has chosen, the board on which something happened last, as the first of the alphabet
 * may be empty.
 *
 * @param newest the newest evaluation, where there is one.
 * @returns undefined where there is no version at all.
 */
export function boardOf<Version extends { readonly id: string }>(
  versions: readonly Version[],
  chosen: { readonly version?: string | undefined; readonly protocol?: Protocol | undefined },
  newest: { readonly protocol: Protocol; readonly datasetVersion: { readonly id: string } } | undefined,
): Board<Version> | undefined {
  const last = chosen.version === undefined ? newest : undefined;
  const version = versions.find(({ id }) => id === (chosen.version ?? last?.datasetVersion.id)) ?? versions[0];
  if (version === undefined) return undefined;
  return {
    version,
    protocol: chosen.protocol ?? (last?.datasetVersion.id === version.id ? last.protocol : 'LINEAR_PROBE'),
  };
}
