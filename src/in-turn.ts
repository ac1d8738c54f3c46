/** Work that must not run side by side, because each piece of it takes much memory or keeps a core busy. */

/** Runs the work when all work before it has ended; returns its result, or throws its error. */
export type InTurn = <Result>(work: () => Promise<Result>) => Promise<Result>;

/** @returns a queue of its own: work of another queue does not wait for it. */
export function createTurns(): InTurn {
  let last: Promise<unknown> = Promise.resolve();
  return (work) => {
    const result = last.then(work);
    last = result.catch(() => undefined);
    return result;
  };
}
