/** Work on many things at once whose results come in order, and which shares what there is only so much of: memory. */

export interface InOrderLimits<Kind extends string> {
  /** Items under way or waiting to be taken. */
  readonly windowSize: number;
  /** How much of each kind all of them together may hold. */
  readonly shared: Readonly<Record<Kind, number>>;
}

/**
 * What one item has of what there is. All that it holds is given back when its result was taken and the next one is
 * asked for.
 */
export interface Room<Kind extends string> {
  /**
   * Waits until every item before this one has taken its own of this kind, or has ended, and there is room. To take
   * again what is held already takes nothing.
   * @throws RangeError for more than the limit, and for more than an item took before.
   */
  take(kind: Kind, amount: number): Promise<void>;
  /** Gives back all but so much. */
  keep(kind: Kind, amount: number): void;
}

/**
 * The results of `work`, in the order of the items. As room is given in that order too, it is never waited for in a
 * circle, if every item takes its kinds of room in one order: what it waits for is held by items before it, which wait
 * for none behind them. Leaving the loop early, or a failure, waits for the work under way.
 */
export async function* mapInOrder<Item, Result, Kind extends string>(
  items: Iterable<Item>,
  limits: InOrderLimits<Kind>,
  work: (item: Item, room: Room<Kind>) => Promise<Result>,
): AsyncGenerator<Result> {
  const budgets = createBudgets(limits.shared);
  const underWay: Promise<Result>[] = [];
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
    }).finally(() => {
      for (const budget of budgets.all) budget.pass(order);
    });
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
      for (const budget of budgets.all) budget.keep(order, 0);
      start();
    }
  } finally {
    for (const budget of budgets.all) budget.close();
    await Promise.allSettled(underWay);
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
  /** From now on the item takes nothing. */
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
  /** The first item that has neither taken nor passed. */
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
        throw new RangeError('An item asks for more room than it took.');
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
