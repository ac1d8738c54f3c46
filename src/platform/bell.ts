/** Wakes one waiter, who may not be waiting yet: reset, look, then wait for what came after the look. */

export type Bell = ReturnType<typeof createBell>;

export function createBell() {
  let rung = false;
  let stopped = false;
  let wake: (() => void) | undefined;
  return {
    /** Rings for the last time: nobody waits any more. */
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
