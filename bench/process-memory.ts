/** Memory of a program with all its processes, from what Linux shows to programs. */
import { readFileSync } from 'node:fs';
import { pidsBelow } from './processor-time.ts';

/** Megabytes (10^6) of a process and all its descendants now; pages that they share are counted once. */
export function memoryMegabytesOf(pid: number): number {
  const kilobytes = [pid, ...pidsBelow(pid)].map((each) => {
    try {
      return Number(/^Pss:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${each}/smaps_rollup`, 'utf8'))?.[1] ?? 0);
    } catch {
      // The process has ended meanwhile.
      return 0;
    }
  });
  return (kilobytes.reduce((sum, each) => sum + each, 0) * 1024) / 1e6;
}
