/**
 * Wakes one waiter, also if it is not waiting yet. The waiter resets the bell, checks its condition, and then waits for
 * a ring since the reset.
 */

export type Bell = ReturnType<typeof createBell>;

export function createBell() {
  let rung = false;
  let stopped = false;
  let wake: (() => void) | undefined;
  return {
    /** Rings for the last time; every later wait returns at once. */
    stop: (): void => {
      stopped = true;
      wake?.();
    },
    isStopped: (): boolean => stopped,
    ring: (): void => {
      rung = true;
      wake?.();
    },
    reset: (): void => {
      rung = false;
    },
    wait: async (timeoutMs: number): Promise<void> => {
      if (rung || stopped) return;
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, timeoutMs);
        wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
      wake = undefined;
    },
  };
}
