/** Counts the processes that the kernel has killed because memory ran out. */
import { readFile } from 'node:fs/promises';

/** The count since the machine started; undefined if the kernel does not report it. */
export async function oomKillCount(): Promise<number | undefined> {
  const text = await readFile('/proc/vmstat', 'utf8').catch(() => '');
  const [, count] = /^oom_kill (\d+)$/m.exec(text) ?? [];
  return count === undefined ? undefined : Number(count);
}
