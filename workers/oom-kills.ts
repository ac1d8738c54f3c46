/** How often the kernel has ended a process because memory ran out. */
import { readFile } from 'node:fs/promises';

/** Since the machine started; undefined where the kernel does not say. */
export async function oomKillCount(): Promise<number | undefined> {
  const text = await readFile('/proc/vmstat', 'utf8').catch(() => '');
  const [, count] = /^oom_kill (\d+)$/m.exec(text) ?? [];
  return count === undefined ? undefined : Number(count);
}
