/**
 * Runs work on many items at once, returns the results in the order of the items, and shares limited resources such as
 * memory among them.
 */

export interface InOrderLimits<Kind extends string> {
  /** Items that are in progress, or whose result waits to be taken. */
  readonly windowSize: number;
  /** The amount of each resource that all items together may hold. */
  readonly shared: Readonly<Record<Kind, number>>;
}

/** The resources that one item holds. They are returned after its result was taken and the next one is requested. */
export interface HeldResources<Kind extends string> {
  /**
   * Waits until every earlier item has taken its own amount of this resource or has ended, and enough is free. An
   * amount that is already held is not taken again.
   * @throws RangeError for more than the limit, and for more than the item's first amount.
   */
  take(kind: Kind, amount: number): Promise<void>;
  /** Returns all but this amount. */
  keep(kind: Kind, amount: number): void;
  /** Aborted when nobody takes the result any more. */
  readonly abandoned: AbortSignal;
}

/**
 * Yields the results of `work` in the order of the items. A deadlock is impossible if every item takes its resources in
 * the same order: an item waits only for earlier items, and these never wait for later ones. If the loop ends early or
 * fails, it waits for the work in progress.
 */
export async function* mapInOrder<Item, Result, Kind extends string>(
  items: Iterable<Item>,
  limits: InOrderLimits<Kind>,
  work: (item: Item, room: HeldResources<Kind>) => Promise<Result>,
): AsyncGenerator<Result> {
  const budgets = createBudgets(limits.shared);
  const pending: Promise<Result>[] = [];
  const abandoned = new AbortController();
  const iterator = items[Symbol.iterator]();
  let startedCount = 0;
  const start = (): void => {
    const next = iterator.next();
    if (next.done === true) return;
    const order = startedCount;
    startedCount += 1;
    const result = work(next.value, {
      take: (kind, amount) => budgets.of(kind).take(order, amount),
      keep: (kind, amount) => budgets.of(kind).keep(order, amount),
      abandoned: abandoned.signal,
    }).finally(() => {
      for (const budget of budgets.all) budget.pass(order);
    });
    // A failure is thrown when its turn comes; until then it must not count as an unhandled rejection.
    result.catch(() => undefined);
    pending.push(result);
  };
  try {
    for (let slot = 0; slot < limits.windowSize; slot += 1) start();
    for (let order = 0; ; order += 1) {
      const oldest = pending[0];
      if (oldest === undefined) return;
      yield await oldest;
      void pending.shift();
      for (const budget of budgets.all) budget.keep(order, 0);
      start();
    }
  } finally {
    abandoned.abort();
    for (const budget of budgets.all) budget.close();
    await Promise.allSettled(pending);
  }
}

interface Waiting {
  readonly amount: number;
  readonly grant: () => void;
  readonly refuse: (error: Error) => void;
}

interface Budget {
  take(order: number, amount: number): Promise<void>;
  keep(order: number, amount: number): void;
  /** From here on the item takes nothing. */
  pass(order: number): void;
  close(): void;
}

function createBudgets<Kind extends string>(limits: Readonly<Record<Kind, number>>) {
  const byKind = new Map<Kind, Budget>();
  for (const kind in limits) byKind.set(kind, createBudget(limits[kind]));
  return {
    all: [...byKind.values()],
    of: (kind: Kind): Budget => {
      const budget = byKind.get(kind);
      if (budget === undefined) throw new RangeError(`No limit is given for ${kind}.`);
      return budget;
    },
  };
}

function createBudget(limit: number): Budget {
  const held = new Map<number, number>();
  const waiting = new Map<number, Waiting>();
  const passed = new Set<number>();
  let used = 0;
  /** The first item that has neither taken nor ended. */
  let turn = 0;
  let closed = false;
  const serve = (): void => {
    for (;;) {
      if (passed.delete(turn)) {
        turn += 1;
        continue;
      }
      const next = waiting.get(turn);
      if (next === undefined || used + next.amount > limit) return;
      waiting.delete(turn);
      held.set(turn, next.amount);
      used += next.amount;
      turn += 1;
      next.grant();
    }
  };
  return {
    take: async (order, amount) => {
      if (closed) throw new Error('The work was abandoned.');
      if (order < turn) {
        if (amount <= (held.get(order) ?? 0)) return;
        throw new RangeError('An item requests more than it took at first.');
      }
      if (amount > limit) throw new RangeError(`${amount} of at most ${limit}.`);
      const granted = new Promise<void>((grant, refuse) => waiting.set(order, { amount, grant, refuse }));
      serve();
      await granted;
    },
    keep: (order, amount) => {
      const before = held.get(order) ?? 0;
      if (amount >= before) return;
      used -= before - amount;
      if (amount === 0) held.delete(order);
      else held.set(order, amount);
      serve();
    },
    pass: (order) => {
      if (order >= turn) passed.add(order);
      serve();
    },
    close: () => {
      closed = true;
      for (const { refuse } of waiting.values()) refuse(new Error('The work was abandoned.'));
      waiting.clear();
    },
  };
}
