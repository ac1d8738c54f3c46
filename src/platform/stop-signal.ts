/** Ctrl-C and similar signals: the first one stops cleanly, a second one at least a second later stops at once. */

export interface StopSignal {
  isStopping(): boolean;
  /** Resolves when a stop is requested. */
  readonly requested: Promise<void>;
  dispose(): void;
}

/** npm and the launcher may forward the same Ctrl-C a second time. */
const SAME_SIGNAL_MS = 1_000;

/**
 * Listens for SIGINT, SIGTERM and SIGHUP.
 * @param stop called once, at the first signal; if it fails, the process exits with code 1. A second signal exits with
 * code 130.
 */
export function onStopSignal(stop: () => Promise<void>): StopSignal {
  let firstMs: number | undefined;
  let resolveRequested: () => void = () => undefined;
  const requested = new Promise<void>((resolve) => {
    resolveRequested = resolve;
  });
  const listener = (): void => {
    if (firstMs !== undefined) {
      if (performance.now() - firstMs > SAME_SIGNAL_MS) process.exit(130);
      return;
    }
    firstMs = performance.now();
    process.stderr.write('\nStopping ...\n');
    resolveRequested();
    stop().catch((error: unknown) => {
      process.stderr.write(`${String(error)}\n`);
      process.exit(1);
    });
  };
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
  for (const signal of signals) process.on(signal, listener);
  return {
    isStopping: () => firstMs !== undefined,
    requested,
    dispose: () => {
      for (const signal of signals) process.off(signal, listener);
    },
  };
}
