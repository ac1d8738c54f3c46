/** A request is answered in time, and does nothing more when it was not. */
import { DomainError } from '../errors.ts';
import type { ApiContext } from './context.ts';
import type { Place } from './fair-queue.ts';

export interface Deadline {
  /** Aborted with a DomainError TIMED_OUT. */
  readonly signal: AbortSignal;
  /** Begins to count. */
  start(timeoutMs: number): void;
  /** The work was done in time. */
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

/** An operation's context with the time that it has. */
export interface TimedContext extends ApiContext {
  readonly deadline: Deadline;
  /** Its place among the operations that use the database. */
  readonly place: Place;
}

/** Resolvers come to nothing more once the time is over: what runs on is bounded by the database's own timeout. */
export function withDeadline(context: ApiContext, deadline: Deadline, place: Place): TimedContext {
  return {
    ...context,
    deadline,
    place,
    services: untilAborted(context.services, deadline.signal),
    loaders: untilAborted(context.loaders, deadline.signal),
  };
}

/** A proxy and not getters: Apollo copies the context, and with it whatever a getter gives at that moment. */
function untilAborted<Target extends object>(target: Target, signal: AbortSignal): Target {
  return new Proxy(target, {
    get: (inner, name): unknown => {
      signal.throwIfAborted();
      return Reflect.get(inner, name);
    },
  });
}

/** What `work` gives, or a rejection with TIMED_OUT as soon as the time is over. */
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
