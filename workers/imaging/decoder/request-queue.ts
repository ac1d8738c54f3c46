/**
 * The order of the requests to one decoder, which answers them one after another. A short request is sent while an
 * earlier one is still being answered; replies are received in the order of the requests.
 */

export interface QueuedRequest<Result> {
  /** Its message fits into the pipe, so that it can be sent while the decoder is busy. */
  readonly isShort: boolean;
  readonly send: () => Promise<void>;
  /** Receives all replies to it. */
  readonly receive: () => Promise<Result>;
}

export interface RequestQueue {
  /**
   * @returns what `receive` returns.
   * @throws PredecessorFailedError if an earlier request has failed, after which the decoder answers no more; otherwise
   * what `send` and `receive` throw.
   */
  run<Result>(request: QueuedRequest<Result>): Promise<Result>;
}

/** An earlier request failed: this one is not to blame, and needs another decoder. */
export class PredecessorFailedError extends Error {
  override readonly name = 'PredecessorFailedError';
}

export function createRequestQueue(): RequestQueue {
  let hasFailed = false;
  /** Never rejects, like `lastSent`. */
  let lastAnswered: Promise<void> = Promise.resolve();
  /** When the next short message may follow. */
  let lastSent = lastAnswered;

  const throwIfFailed = (): void => {
    if (hasFailed) throw new PredecessorFailedError('An earlier request to this decoder failed.');
  };
  return {
    run: async ({ isShort, send, receive }) => {
      const answeredBefore = lastAnswered;
      const sent = (isShort ? lastSent : answeredBefore).then(() => {
        throwIfFailed();
        return send();
      });
      // Awaited in its turn, after the earlier request has shown whether it is to blame.
      sent.catch(() => undefined);
      const answered = answeredBefore.then(async () => {
        throwIfFailed();
        try {
          await sent;
          return await receive();
        } catch (error) {
          hasFailed = true;
          throw error;
        }
      });
      lastAnswered = settled(answered);
      lastSent = settled(sent);
      return answered;
    },
  };
}

function settled(work: Promise<unknown>): Promise<void> {
  return work.then(
    () => undefined,
    () => undefined,
  );
}
