/**
 * The wall clock of a stage: that of its server, PostgreSQL, agent and children alone, by libfaketime (Debian: `apt-get
 * install libfaketime`). The monotonic clock continues as it is, as it does when a machine's clock is set.
 */
import { existsSync } from 'node:fs';
import { rename, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';

const LIBRARY = ['/usr/lib/x86_64-linux-gnu', '/usr/lib/aarch64-linux-gnu', '/usr/lib64', '/usr/lib']
  .map((folder) => `${folder}/faketime/libfaketimeMT.so.1`)
  .find((file) => existsSync(file));

export interface Clock {
  /** What a process has to be started with to go by it. */
  readonly env: Readonly<Record<string, string>>;
  /** From a second later on it shows so much less than it would have. */
  setBack(seconds: number): Promise<void>;
  /** Less than zero: behind that of the machine. */
  offsetSeconds(): number;
  /** Removes what processes that were killed could not. */
  forget(pids: Iterable<number>): Promise<void>;
}

/** @returns undefined where libfaketime is not installed. */
export async function openClock(folder: string): Promise<Clock | undefined> {
  if (LIBRARY === undefined) return undefined;
  const file = path.join(folder, 'clock');
  let offsetSeconds = 0;
  const write = async (): Promise<void> => {
    // Whole or not at all: it is read at any moment.
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
