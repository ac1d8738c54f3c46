/**
 * Wakes one waiter, also if it is not waiting yet. The waiter resets the notifier, checks its condition, and then waits
 * for a notification since the reset.
 */

export type Notifier = ReturnType<typeof createNotifier>;

export function createNotifier() {
  let notified = false;
  let stopped = false;
  let wake: (() => void) | undefined;
  return {
    /** Notifies for the last time; every later wait returns at once. */
    stop: (): void => {
      stopped = true;
      wake?.();
    },
    isStopped: (): boolean => stopped,
    notify: (): void => {
      notified = true;
      wake?.();
    },
    reset: (): void => {
      notified = false;
    },
    /** Resolves when there was a notification since the reset, at the stop, or after the timeout. */
    wait: async (timeoutMs: number): Promise<void> => {
      if (notified || stopped) return;
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
