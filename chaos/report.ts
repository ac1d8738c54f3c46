/** The results of a chaos run, and their table. */

export interface ChaosPromise {
  readonly promise: string;
  readonly held: boolean;
  /** What was observed, in numbers. */
  readonly seen: string;
}

export interface ChaosReport {
  readonly startedAt: Date;
  readonly machine: {
    readonly cpu: string | undefined;
    readonly cores: number;
    readonly memoryGigabytes: number;
    readonly node: string;
  };
  /** Load averages of the machine over one, five and fifteen minutes. */
  readonly loadAverage: { readonly before: readonly number[]; readonly after: readonly number[] };
  readonly seed: number;
  /** Trainings that were started in addition to the undisturbed one. */
  readonly trainingCount: number;
  readonly durationSeconds: number;
  /** How long the undisturbed training took from its launch. */
  readonly undisturbedSeconds: number;
  /** How often each fault was injected. */
  readonly faults: Readonly<Record<string, number>>;
  /** Faults that could not be injected on this machine or in this time. */
  readonly remarks: readonly string[];
  readonly promises: readonly ChaosPromise[];
}

export function asTable({
  machine,
  loadAverage,
  seed,
  trainingCount,
  durationSeconds,
  undisturbedSeconds,
  faults,
  remarks,
  promises,
}: ChaosReport): string {
  const width = Math.max(...promises.map(({ promise }) => promise.length));
  const described = (loads: readonly number[]): string => loads.map((load) => load.toFixed(1)).join(' ');
  return [
    `${trainingCount} trainings under seed ${seed} in ${Math.round(durationSeconds)} s (an undisturbed one: ${undisturbedSeconds.toFixed(1)} s).`,
    `Faults injected:  ${Object.entries(faults)
      .map(([what, count]) => `${what} ${count}`)
      .join(', ')}.`,
    `${machine.cores} cores of ${machine.cpu ?? 'an unknown CPU'}, ${machine.memoryGigabytes} GB, Node ${machine.node}; load average before ${described(loadAverage.before)}, after ${described(loadAverage.after)}.`,
    ...remarks,
    ...promises.map(({ promise, held, seen }) => `${held ? 'held  ' : 'BROKEN'}  ${promise.padEnd(width)}  ${seen}`),
    '',
  ].join('\n');
}
