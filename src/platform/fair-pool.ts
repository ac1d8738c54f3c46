/**
 * Work that takes memory, several at a time within a budget, and nobody's at the cost of all others': the person who
 * has least under way comes next, and no one holds more than half of the places or of the memory with more than one
 * piece.
 */

export interface FairPoolOptions {
  /** At once, of everybody; at least 1. */
  readonly places: number;
  readonly budgetBytes: number;
}

export interface FairPool {
  /**
   * Runs work when its turn has come.
   * @param person whose it is. @param byteSize what it may take; more than the budget passes when nothing else runs.
   */
  run<Result>(person: string, byteSize: number, work: () => Promise<Result>): Promise<Result>;
}

interface Job {
  readonly person: string;
  readonly byteSize: number;
  readonly start: () => void;
}

export function createFairPool({ places, budgetBytes }: FairPoolOptions): FairPool {
  let waiting: Job[] = [];
  const running = new Set<Job>();
  /** Of all, or of one person's. */
  const sumOf = (person?: string): { readonly count: number; readonly byteSize: number } => {
    const jobs = [...running].filter((job) => person === undefined || job.person === person);
    return { count: jobs.length, byteSize: jobs.reduce((sum, job) => sum + job.byteSize, 0) };
  };
  const mayStart = (job: Job): boolean => {
    const all = sumOf();
    if (all.count === 0) return true;
    const own = sumOf(job.person);
    const isWithin = all.count < places && all.byteSize + job.byteSize <= budgetBytes;
    const leavesRoom = own.count + 1 <= places / 2 && own.byteSize + job.byteSize <= budgetBytes / 2;
    return isWithin && (own.count === 0 || leavesRoom);
  };
  const startNext = (): void => {
    for (;;) {
      // The first of each person, in the order in which they came; the person with least under way before the others.
      const firsts = waiting.filter((job, index) => waiting.findIndex(({ person }) => person === job.person) === index);
      const next = firsts.sort((a, b) => sumOf(a.person).count - sumOf(b.person).count).find(mayStart);
      if (next === undefined) return;
      waiting = waiting.filter((job) => job !== next);
      running.add(next);
      next.start();
    }
  };
  return {
    run: async (person, byteSize, work) => {
      const { promise: turn, resolve: start } = Promise.withResolvers<void>();
      const job: Job = { person, byteSize, start };
      waiting.push(job);
      startNext();
      await turn;
      try {
        return await work();
      } finally {
        running.delete(job);
        startNext();
      }
    },
  };
}
