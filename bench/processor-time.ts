/** Processor time of other processes, from the statistics that Linux shows to programs. */
import { readdirSync, readFileSync } from 'node:fs';

const CLOCK_TICKS_PER_SECOND = 100;

/** Processor time of all descendants of this process, as the kernel reports it for each. */
export function cpuSecondsBelow(parentPid: number): number {
  const pids = readdirSync('/proc').filter((name) => /^\d+$/.test(name));
  const all = pids.flatMap((pid) => {
    try {
      const line = readFileSync(`/proc/${pid}/stat`, 'utf8');
      // The name in brackets may contain anything.
      const fields = line
        .slice(line.lastIndexOf(')') + 2)
        .split(' ')
        .map(Number);
      const [, parent = 0] = fields;
      return [{ pid: Number(pid), parent, seconds: ((fields[11] ?? 0) + (fields[12] ?? 0)) / CLOCK_TICKS_PER_SECOND }];
    } catch {
      // The process has ended meanwhile.
      return [];
    }
  });
  const below = (parent: number): number =>
    all.filter((each) => each.parent === parent).reduce((sum, each) => sum + each.seconds + below(each.pid), 0);
  return below(parentPid);
}

/** Processor time of this process, and of all programs that it has started and that have ended. */
export function ownAndEndedSeconds(): number {
  const line = readFileSync('/proc/self/stat', 'utf8');
  const fields = line.slice(line.lastIndexOf(')') + 2).split(' ');
  return [11, 12, 13, 14].reduce((sum, index) => sum + Number(fields[index]), 0) / CLOCK_TICKS_PER_SECOND;
}
