/** The deadline of a request: it is answered in time, and its resolvers stop when the deadline has passed. */
import { DomainError } from '../errors.ts';
import type { ApiContext } from './context.ts';
import type { QueueSlot } from './fair-queue.ts';

export interface Deadline {
  /** Aborted with a DomainError TIMED_OUT. */
  readonly signal: AbortSignal;
  /** Starts the timer. */
  start(timeoutMs: number): void;
  /** Ends the timer: the work was done in time. */
  end(): void;
}

export function createDeadline(): Deadline {
  const controller = new AbortController();
  let timer: NodeJS.Timeout | undefined;
  return {
    signal: controller.signal,
    start: (timeoutMs) => {
      clearTimeout(timer);
      timer = setTimeout(() => controller.abort(timedOut(timeoutMs)), timeoutMs);
    },
    end: () => clearTimeout(timer),
  };
}

function timedOut(timeoutMs: number): DomainError {
  return new DomainError({
    code: 'TIMED_OUT',
    message: `The operation did not finish within ${timeoutMs / 1000} s.`,
    hint: 'Request less at once. A change may still have been made: check before you repeat it.',
    retryable: true,
  });
}

/** An operation's context with its deadline. */
export interface TimedContext extends ApiContext {
  readonly deadline: Deadline;
  /** Its slot among the operations that use the database. */
  readonly slot: QueueSlot;
}

/**
 * Resolvers reach no service once the deadline has passed; queries that still run are limited by the database's own
 * timeout.
 */
export function withDeadline(context: ApiContext, deadline: Deadline, slot: QueueSlot): TimedContext {
  return {
    ...context,
    deadline,
    slot,
    services: untilAborted(context.services, deadline.signal),
    loaders: untilAborted(context.loaders, deadline.signal),
  };
}

/** A proxy instead of getters: Apollo copies the context, which would freeze the current value of a getter. */
function untilAborted<Target extends object>(target: Target, signal: AbortSignal): Target {
  return new Proxy(target, {
    get: (inner, name): unknown => {
      signal.throwIfAborted();
      return Reflect.get(inner, name);
    },
  });
}

/** The result of `work`, or a rejection with TIMED_OUT as soon as the deadline has passed. */
export async function beforeDeadline<Value>(work: Promise<Value> | Value, { signal }: Deadline): Promise<Value> {
  const { promise: over, reject } = Promise.withResolvers<never>();
  const abort = (): void => reject(signal.reason);
  signal.addEventListener('abort', abort, { once: true });
  try {
    return await Promise.race([work, over]);
  } finally {
    signal.removeEventListener('abort', abort);
  }
}
