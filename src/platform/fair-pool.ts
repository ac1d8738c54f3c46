/**
 * Runs memory-intensive jobs concurrently within a budget, and fairly: the person with the least running work is next,
 * and no person with more than one job uses more than half of the slots or of the memory.
 */

export interface FairPoolOptions {
  /** Number of concurrent jobs of all persons; at least 1. */
  readonly slotCount: number;
  readonly budgetBytes: number;
}

export interface FairPool {
  /**
   * Runs work when it is next.
   * @param person the owner of the work. @param byteSize the memory that it may use; work above the budget runs when
   * nothing else does.
   */
  run<Result>(person: string, byteSize: number, work: () => Promise<Result>): Promise<Result>;
}

interface Job {
  readonly person: string;
  readonly byteSize: number;
  readonly start: () => void;
}

export function createFairPool({ slotCount, budgetBytes }: FairPoolOptions): FairPool {
  let waiting: Job[] = [];
  const running = new Set<Job>();
  /** Running work of all persons, or of one. */
  const sumOf = (person?: string): { readonly count: number; readonly byteSize: number } => {
    const jobs = [...running].filter((job) => person === undefined || job.person === person);
    return { count: jobs.length, byteSize: jobs.reduce((sum, job) => sum + job.byteSize, 0) };
  };
  const mayStart = (job: Job): boolean => {
    const all = sumOf();
    if (all.count === 0) return true;
    const own = sumOf(job.person);
    const isWithin = all.count < slotCount && all.byteSize + job.byteSize <= budgetBytes;
    const leavesRoom = own.count + 1 <= slotCount / 2 && own.byteSize + job.byteSize <= budgetBytes / 2;
    return isWithin && (own.count === 0 || leavesRoom);
  };
  const startNext = (): void => {
    for (;;) {
      // The first waiting job of each person, sorted by that person's running work, then by arrival.
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
