/** Whether bytes go between this process and the bucket of the registry, or by way of the registry. */

/** The bucket did not take or send bytes, or cannot be reached from this machine. */
export class BucketFault extends Error {
  override readonly name = 'BucketFault';

  constructor(message: string, cause?: unknown) {
    super(message, { cause });
  }
}

export interface BucketWay {
  isOpen(): boolean;
  worked(): void;
  failed(reason: unknown): void;
}

/** So often in a row, over all transfers: a firewall costs each process only these attempts. */
const FAILURES_MAX = 3;

/** @param onClosed called once, when from now on everything goes by way of the registry. */
export function createBucketWay(onClosed: (reason: unknown) => void = () => undefined): BucketWay {
  let failureCount = 0;
  return {
    isOpen: () => failureCount < FAILURES_MAX,
    worked: () => {
      if (failureCount < FAILURES_MAX) failureCount = 0;
    },
    failed: (reason) => {
      failureCount += 1;
      if (failureCount === FAILURES_MAX) onClosed(reason);
    },
  };
}
