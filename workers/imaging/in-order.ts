/** Work on many things at once whose results come in order and whose memory is bounded. */

export interface InOrderLimits {
  /** Items under way or waiting to be taken. */
  readonly windowSize: number;
  /** Bytes that all of them together may reserve. */
  readonly byteLimit: number;
}

/** What `work` reserves is given back when its result has been taken and the next one is asked for. */
export type Reserve = (byteCount: number) => Promise<void>;

/**
 * The results of `work`, in the order of the items. Reserving waits until there is room; the oldest item always has it,
 * so that one larger than the limit passes alone and nothing ever waits in a circle. Leaving the loop early, or a
 * failure, waits for the work under way.
 */
export async function* mapInOrder<Item, Result>(
  items: Iterable<Item>,
  limits: InOrderLimits,
  work: (item: Item, reserve: Reserve) => Promise<Result>,
): AsyncGenerator<Result> {
  const budget = createBudget(limits.byteLimit);
  const underWay: Promise<Result>[] = [];
  const iterator = items[Symbol.iterator]();
  let startedCount = 0;
  const start = (): void => {
    const next = iterator.next();
    if (next.done === true) return;
    const order = startedCount;
    startedCount += 1;
    const result = work(next.value, (byteCount) => budget.reserve(order, byteCount));
    // Its failure is met when its turn comes; until then it must not count as unhandled.
    result.catch(() => undefined);
    underWay.push(result);
  };
  try {
    for (let slot = 0; slot < limits.windowSize; slot += 1) start();
    for (let order = 0; ; order += 1) {
      const oldest = underWay[0];
      if (oldest === undefined) return;
      yield await oldest;
      void underWay.shift();
      budget.release(order);
      start();
    }
  } finally {
    budget.close();
    await Promise.allSettled(underWay);
  }
}

interface Waiting {
  readonly order: number;
  readonly byteCount: number;
  readonly grant: () => void;
  readonly refuse: (error: Error) => void;
}

function createBudget(byteLimit: number) {
  const held = new Map<number, number>();
  let waiting: Waiting[] = [];
  let usedBytes = 0;
  let oldestOrder = 0;
  let closed = false;
  const take = (order: number, byteCount: number): boolean => {
    if (order !== oldestOrder && usedBytes + byteCount > byteLimit) return false;
    usedBytes += byteCount;
    held.set(order, (held.get(order) ?? 0) + byteCount);
    return true;
  };
  return {
    reserve: (order: number, byteCount: number): Promise<void> => {
      if (closed) return Promise.reject(new Error('The work was abandoned.'));
      if (take(order, byteCount)) return Promise.resolve();
      return new Promise((grant, refuse) => waiting.push({ order, byteCount, grant, refuse }));
    },
    release: (order: number): void => {
      usedBytes -= held.get(order) ?? 0;
      held.delete(order);
      oldestOrder = order + 1;
      waiting = waiting
        .sort((a, b) => a.order - b.order)
        .filter((one) => {
          if (!take(one.order, one.byteCount)) return true;
          one.grant();
          return false;
        });
    },
    close: (): void => {
      closed = true;
      for (const one of waiting) one.refuse(new Error('The work was abandoned.'));
      waiting = [];
    },
  };
}
