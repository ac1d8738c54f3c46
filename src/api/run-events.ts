/** Live events of runs: stored events first, then those that PostgreSQL announces. */
import { DomainError } from '../errors.ts';
import type { Viewer } from '../modules/access/index.ts';
import type { RunEventRecord, RunService } from '../modules/runs/index.ts';

/** Tells listeners that something of a run was committed. */
export interface RunAnnouncements {
  /** @returns a function that ends the listening. */
  subscribe(runId: string, listener: () => void): () => void;
}

export interface RunEvents {
  /**
   * Every event after the given number, in order, each once, until the run has ended.
   * @throws DomainError RUN_NOT_FOUND.
   */
  follow(viewer: Viewer, runId: string, afterSequence: number): AsyncGenerator<RunEventRecord, void, undefined>;
}

/** An announcement that was lost (a reconnecting listener) costs at most this delay. */
const LOOK_AGAIN_MS = 5_000;

const ENDED: ReadonlySet<string> = new Set(['SUCCEEDED', 'FAILED', 'CANCELED']);

export function createRunEvents(runs: RunService, announcements: RunAnnouncements): RunEvents {
  return {
    async *follow(viewer, runId, afterSequence) {
      if ((await runs.get(viewer, runId)) === undefined) {
        throw new DomainError({ code: 'RUN_NOT_FOUND', message: 'There is no run with this id.', field: 'runId', hint: 'List them with the query runs.' });
      }
      const bell = createBell();
      const unsubscribe = announcements.subscribe(runId, bell.ring);
      let sequence = afterSequence;
      try {
        for (;;) {
          // Answered before reading, so that an event committed while we read rings again.
          bell.reset();
          const events = await runs.eventsAfter(viewer, runId, sequence);
          for (const event of events) {
            sequence = event.sequence;
            yield event;
          }
          if (events.length > 0) continue;
          const run = await runs.get(viewer, runId);
          if (run === undefined) return;
          if (ENDED.has(run.status)) {
            const late = await runs.eventsAfter(viewer, runId, sequence);
            if (late.length === 0) return;
            continue;
          }
          await bell.wait(LOOK_AGAIN_MS);
        }
      } finally {
        unsubscribe();
      }
    },
  };
}

function createBell() {
  let rung = false;
  let wake: (() => void) | undefined;
  return {
    ring: (): void => {
      rung = true;
      wake?.();
    },
    reset: (): void => {
      rung = false;
    },
    wait: async (timeoutMs: number): Promise<void> => {
      if (rung) return;
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, timeoutMs);
        wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
      wake = undefined;
    },
  };
}
