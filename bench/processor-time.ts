/** Processor time of other processes, from the statistics that Linux shows to programs. */
import { readdirSync, readFileSync } from 'node:fs';

const CLOCK_TICKS_PER_SECOND = 100;

interface KnownProcess {
  readonly pid: number;
  readonly parent: number;
  readonly seconds: number;
}

function allProcesses(): KnownProcess[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap((pid) => {
      try {
        const line = readFileSync(`/proc/${pid}/stat`, 'utf8');
        // The name in brackets may contain anything.
        const fields = line
          .slice(line.lastIndexOf(')') + 2)
          .split(' ')
          .map(Number);
        const [, parent = 0] = fields;
        const seconds = ((fields[11] ?? 0) + (fields[12] ?? 0)) / CLOCK_TICKS_PER_SECOND;
        return [{ pid: Number(pid), parent, seconds }];
      } catch {
        // The process has ended meanwhile.
        return [];
      }
    });
}

function processesBelow(parentPid: number): KnownProcess[] {
  const byParent = Map.groupBy(allProcesses(), ({ parent }) => parent);
  const below = (parent: number): KnownProcess[] =>
    (byParent.get(parent) ?? []).flatMap((each) => [each, ...below(each.pid)]);
  return below(parentPid);
}

/** All descendants of a process. */
export function pidsBelow(parentPid: number): number[] {
  return processesBelow(parentPid).map(({ pid }) => pid);
}

/** Processor time of all descendants of this process, as the kernel reports it for each. */
export function cpuSecondsBelow(parentPid: number): number {
  return processesBelow(parentPid).reduce((sum, { seconds }) => sum + seconds, 0);
}

/** Processor time of this process, and of all programs that it has started and that have ended. */
export function ownAndEndedSeconds(): number {
  const line = readFileSync('/proc/self/stat', 'utf8');
  const fields = line.slice(line.lastIndexOf(')') + 2).split(' ');
  return [11, 12, 13, 14].reduce((sum, index) => sum + Number(fields[index]), 0) / CLOCK_TICKS_PER_SECOND;
}
