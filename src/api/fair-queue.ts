/**
 * Who may use the database now: every sender gets a turn, however many requests another one sends. In front of the
 * pool, so that one address or key cannot take all of its connections.
 */
import { DomainError } from '../errors.ts';

export interface FairQueue {
  /** A place for one operation of `who`, which has still to be taken. */
  placeFor(who: string): Place;
}

export interface Place {
  /**
   * Waits for a turn.
   * @throws DomainError OVERLOADED where too many of the same sender wait already, or the turn does not come in time.
   */
  enter(): Promise<void>;
  /** Gives the place to the next. Safe to call twice, and without having entered. */
  leave(): void;
}

export interface FairQueueLimits {
  /** Operations under way, of everybody. */
  readonly total: number;
  /** The same of one sender. */
  readonly perSender: number;
  /** Operations of one sender that wait for a turn. */
  readonly waitingPerSender: number;
  readonly waitMs: number;
}

/** Of a pool of 12 connections one sender takes half at most, with operations that use one at a time. */
export const DEFAULT_QUEUE_LIMITS: FairQueueLimits = { total: 24, perSender: 6, waitingPerSender: 200, waitMs: 10_000 };

export function createFairQueue({ total, perSender, waitingPerSender, waitMs }: FairQueueLimits): FairQueue {
  /** Of each sender who has any, in the order in which they get their next turn. */
  const waiting = new Map<string, (() => void)[]>();
  const running = new Map<string, number>();
  let runningCount = 0;

  const begin = (who: string): void => {
    runningCount += 1;
    running.set(who, (running.get(who) ?? 0) + 1);
  };
  const mayBegin = (who: string): boolean => runningCount < total && (running.get(who) ?? 0) < perSender;
  const next = (): void => {
    for (const [who, turns] of waiting) {
      if (runningCount >= total) return;
      if (!mayBegin(who)) continue;
      const turn = turns.shift();
      waiting.delete(who);
      if (turns.length > 0) waiting.set(who, turns);
      turn?.();
    }
  };
  const end = (who: string): void => {
    runningCount -= 1;
    const left = (running.get(who) ?? 1) - 1;
    if (left > 0) running.set(who, left);
    else running.delete(who);
    next();
  };
  const turnOf = (who: string): Promise<void> =>
    new Promise((resolve, reject) => {
      const turns = waiting.get(who) ?? [];
      if (turns.length >= waitingPerSender) {
        reject(overloaded());
        return;
      }
      const turn = (): void => {
        clearTimeout(timer);
        begin(who);
        resolve();
      };
      const timer = setTimeout(() => {
        const left = (waiting.get(who) ?? []).filter((other) => other !== turn);
        if (left.length > 0) waiting.set(who, left);
        else waiting.delete(who);
        reject(overloaded());
      }, waitMs);
      waiting.set(who, [...turns, turn]);
    });

  return {
    placeFor: (who) => {
      let state: 'OUTSIDE' | 'INSIDE' | 'LEFT' = 'OUTSIDE';
      return {
        enter: async () => {
          if (mayBegin(who) && !waiting.has(who)) begin(who);
          else await turnOf(who);
          // Gone while it waited: its turn is for the next.
          if (state === 'LEFT') end(who);
          else state = 'INSIDE';
        },
        leave: () => {
          if (state === 'INSIDE') end(who);
          state = 'LEFT';
        },
      };
    },
  };
}

function overloaded(): DomainError {
  return new DomainError({
    code: 'OVERLOADED',
    message: 'The server is busy with earlier requests.',
    hint: 'Ask again in a second, and send fewer requests at once.',
    retryable: true,
    retryAfterSeconds: 1,
  });
}
