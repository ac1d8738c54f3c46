/** Waits for conditions; Ctrl-C ends the waiting. */
import { setTimeout as sleep } from 'node:timers/promises';

const POLL_EVERY_MS = 200;

export interface Waiting {
  /** True after Ctrl-C. */
  isOver(): boolean;
  pause(ms: number): Promise<void>;
  /**
   * Resolves when the condition holds; a check that throws counts as false. @throws Error that names what did not
   * happen in time.
   */
  until(what: string, condition: () => Promise<boolean>, deadlineMs: number): Promise<void>;
}

/** @param signal when it is aborted, everything that waits throws. */
export function createWaiting(signal: AbortSignal): Waiting {
  const pause = (ms: number): Promise<void> => sleep(ms, undefined, { signal });
  return {
    isOver: () => signal.aborted,
    pause,
    until: async (what, condition, deadlineMs) => {
      const endMs = performance.now() + deadlineMs;
      while (!(await condition().catch(() => false))) {
        if (performance.now() > endMs) throw new Error(`Waited ${Math.round(deadlineMs / 1000)} s for ${what}.`);
        await pause(POLL_EVERY_MS);
      }
    },
  };
}
