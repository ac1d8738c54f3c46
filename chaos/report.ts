/** What a run of chaos found. */

export interface ChaosPromise {
  readonly promise: string;
  readonly held: boolean;
  /** What was seen, in numbers. */
  readonly seen: string;
}

export interface ChaosReport {
  readonly seed: number;
  readonly trainingCount: number;
  readonly durationSeconds: number;
  /** How often each thing was done. */
  readonly faults: Readonly<Record<string, number>>;
  readonly promises: readonly ChaosPromise[];
}

export function asTable({ seed, trainingCount, durationSeconds, faults, promises }: ChaosReport): string {
  const width = Math.max(...promises.map(({ promise }) => promise.length));
  return [
    `${trainingCount} trainings under seed ${seed} in ${Math.round(durationSeconds)} s; ${Object.entries(faults).map(([what, count]) => `${what} ${count}`).join(', ')}.`,
    ...promises.map(({ promise, held, seen }) => `${held ? 'held  ' : 'BROKEN'}  ${promise.padEnd(width)}  ${seen}`),
    '',
  ].join('\n');
}
