/**
 * The wall clock of the tested system: of its server, PostgreSQL, agent and children only, by libfaketime (Debian:
 * `apt-get install libfaketime`). The monotonic clock is not changed, as when a machine's clock is set.
 */
import { existsSync } from 'node:fs';
import { rename, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';

const LIBRARY = ['/usr/lib/x86_64-linux-gnu', '/usr/lib/aarch64-linux-gnu', '/usr/lib64', '/usr/lib']
  .map((folder) => `${folder}/faketime/libfaketimeMT.so.1`)
  .find((file) => existsSync(file));

export interface Clock {
  /** The environment variables that a process needs to use this clock. */
  readonly env: Readonly<Record<string, string>>;
  /** Sets the clock back by this much; it takes effect within a second. */
  setBack(seconds: number): Promise<void>;
  /** Offset from the machine's clock; negative if this one is behind. */
  offsetSeconds(): number;
  /** Removes the files that killed processes left. */
  forget(pids: Iterable<number>): Promise<void>;
}

/** @returns undefined if libfaketime is not installed. */
export async function openClock(folder: string): Promise<Clock | undefined> {
  if (LIBRARY === undefined) return undefined;
  const file = path.join(folder, 'clock');
  let offsetSeconds = 0;
  const write = async (): Promise<void> => {
    // The file is replaced atomically, because it may be read at any moment.
    await writeFile(`${file}.next`, `${offsetSeconds < 0 ? '' : '+'}${offsetSeconds}s\n`);
    await rename(`${file}.next`, file);
  };
  await write();
  return {
    env: {
      LD_PRELOAD: LIBRARY,
      FAKETIME_TIMESTAMP_FILE: file,
      FAKETIME_CACHE_DURATION: '1',
      FAKETIME_DONT_FAKE_MONOTONIC: '1',
      NO_FAKE_STAT: '1',
    },
    setBack: async (seconds) => {
      offsetSeconds -= Math.round(seconds);
      await write();
    },
    offsetSeconds: () => offsetSeconds,
    forget: async (pids) => {
      for (const pid of pids)
        for (const name of [`faketime_shm_${pid}`, `sem.faketime_sem_${pid}`])
          await rm(path.join('/dev/shm', name), { force: true });
    },
  };
}
