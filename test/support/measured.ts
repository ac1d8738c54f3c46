/** Where and when a command measured its figures, as every page that shows them says it. */
import os from 'node:os';

export interface Machine {
  readonly cpu: string;
  readonly cores: number;
  readonly memoryGigabytes: number;
  readonly node: string;
}

export interface Measured {
  readonly startedAt: Date;
  readonly machine: Machine;
  /** Load averages of the machine over one, five and fifteen minutes. */
  readonly loadAverage: { readonly before: readonly number[]; readonly after: readonly number[] };
}

export function thisMachine(): Machine {
  return {
    cpu: os.cpus()[0]?.model ?? 'an unknown CPU',
    cores: os.availableParallelism(),
    memoryGigabytes: Math.round(os.totalmem() / 1e9),
    node: process.version,
  };
}

/** Without a full stop. */
export function measuredBy(command: string, { startedAt, machine, loadAverage }: Measured): string {
  const [before = 0] = loadAverage.before;
  const [after = 0] = loadAverage.after;
  return `\`${command}\`, ${startedAt.toISOString().slice(0, 10)}, ${machine.cores} cores of ${machine.cpu}, ${machine.memoryGigabytes} GB, load average ${before.toFixed(1)} before and ${after.toFixed(1)} after`;
}
