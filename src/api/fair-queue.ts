/**
 * Limits the number of operations that use the database at the same time, with round robin between senders. Without it,
 * one address or key could take all connections of the pool.
 */
import { DomainError } from '../errors.ts';

export interface FairQueue {
  /** A slot for one operation of `sender`, which the operation must still acquire. */
  slotFor(sender: string): QueueSlot;
}

export interface QueueSlot {
  /**
   * Waits until the operation may begin.
   * @throws DomainError OVERLOADED if too many operations of the sender are waiting, or the wait exceeds `waitMs`.
   */
  acquire(): Promise<void>;
  /** Frees the slot for the next operation. Safe to call twice, and without `acquire`. */
  release(): void;
}

export interface FairQueueLimits {
  /** Concurrent operations of all senders. */
  readonly total: number;
  /** Concurrent operations of one sender. */
  readonly perSender: number;
  /** Waiting operations of one sender. */
  readonly waitingPerSender: number;
  readonly waitMs: number;
}

/** One sender uses at most half of a pool of 12 connections, if each operation uses one connection at a time. */
export const DEFAULT_QUEUE_LIMITS: FairQueueLimits = { total: 24, perSender: 6, waitingPerSender: 200, waitMs: 10_000 };

export function createFairQueue({ total, perSender, waitingPerSender, waitMs }: FairQueueLimits): FairQueue {
  /** Waiting operations by sender, in the order in which the senders get their next turn. */
  const waiting = new Map<string, (() => void)[]>();
  const running = new Map<string, number>();
  let runningCount = 0;

  const begin = (sender: string): void => {
    runningCount += 1;
    running.set(sender, (running.get(sender) ?? 0) + 1);
  };
  const isFree = (sender: string): boolean => runningCount < total && (running.get(sender) ?? 0) < perSender;
  const next = (): void => {
    for (const [sender, turns] of waiting) {
      if (runningCount >= total) return;
      if (!isFree(sender)) continue;
      const turn = turns.shift();
      waiting.delete(sender);
      if (turns.length > 0) waiting.set(sender, turns);
      turn?.();
    }
  };
  const end = (sender: string): void => {
    runningCount -= 1;
    const left = (running.get(sender) ?? 1) - 1;
    if (left > 0) running.set(sender, left);
    else running.delete(sender);
    next();
  };
  const waitForTurn = (sender: string): Promise<void> =>
    new Promise((resolve, reject) => {
      const turns = waiting.get(sender) ?? [];
      if (turns.length >= waitingPerSender) {
        reject(overloaded());
        return;
      }
      const turn = (): void => {
        clearTimeout(timer);
        begin(sender);
        resolve();
      };
      const timer = setTimeout(() => {
        const left = (waiting.get(sender) ?? []).filter((other) => other !== turn);
        if (left.length > 0) waiting.set(sender, left);
        else waiting.delete(sender);
        reject(overloaded());
      }, waitMs);
      waiting.set(sender, [...turns, turn]);
    });

  return {
    slotFor: (sender) => {
      let state: 'NEW' | 'HELD' | 'RELEASED' = 'NEW';
      return {
        acquire: async () => {
          if (isFree(sender) && !waiting.has(sender)) begin(sender);
          else await waitForTurn(sender);
          // The client disconnected while its operation waited, so the slot is free again.
          if (state === 'RELEASED') end(sender);
          else state = 'HELD';
        },
        release: () => {
          if (state === 'HELD') end(sender);
          state = 'RELEASED';
        },
      };
    },
  };
}

function overloaded(): DomainError {
  return new DomainError({
    code: 'OVERLOADED',
    message: 'The server is busy with earlier requests.',
    hint: 'Try again in a second, and send fewer requests at once.',
    retryable: true,
    retryAfterSeconds: 1,
  });
}
