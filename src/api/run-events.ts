/** Live events of runs: stored events first, then new ones as PostgreSQL announces them (LISTEN/NOTIFY). */
import { DomainError } from '../errors.ts';
import type { Viewer } from '../modules/access/index.ts';
import type { RunEventRecord, RunService } from '../modules/runs/index.ts';
import { isDatabaseFault } from '../platform/database-fault.ts';
import { createNotifier, type Notifier } from '../platform/notifier.ts';

/** Notifies listeners that a change of a run was committed. */
export interface RunAnnouncements {
  /** @returns a function that removes the listener. */
  subscribe(runId: string, listener: () => void): () => void;
}

export interface RunEvents {
  /**
   * Every event after the given number, in order, each once, until the run has ended.
   * @throws DomainError RUN_NOT_FOUND.
   */
  follow(viewer: Viewer, runId: string, afterSequence: number): AsyncGenerator<RunEventRecord, void, undefined>;
}

/** Events are also polled at this interval, because a notification is lost while the listener reconnects. */
const POLL_EVERY_MS = 5_000;

const ENDED: ReadonlySet<string> = new Set(['SUCCEEDED', 'FAILED', 'CANCELED']);

export function createRunEvents(runs: RunService, announcements: RunAnnouncements): RunEvents {
  return {
    follow(viewer, runId, afterSequence) {
      const notifier = createNotifier();
      const events = eventsOf({ runs, announcements, viewer, runId, afterSequence, notifier });
      // A generator learns that its reader has stopped only at its next event. Waking it at once avoids queries for a
      // reader that is gone, above all after the server has closed the database.
      const leave = events.return.bind(events);
      events.return = (value) => {
        notifier.stop();
        return leave(value);
      };
      return events;
    },
  };
}

interface FollowOptions {
  readonly runs: RunService;
  readonly announcements: RunAnnouncements;
  readonly viewer: Viewer;
  readonly runId: string;
  readonly afterSequence: number;
  readonly notifier: Notifier;
}

async function* eventsOf({
  runs,
  announcements,
  viewer,
  runId,
  afterSequence,
  notifier,
}: FollowOptions): AsyncGenerator<RunEventRecord, void, undefined> {
  if ((await runs.get(viewer, runId)) === undefined) {
    throw new DomainError({
      code: 'RUN_NOT_FOUND',
      message: 'No run has this id.',
      field: 'runId',
      hint: 'List the runs with the query `runs`.',
    });
  }
  const unsubscribe = announcements.subscribe(runId, notifier.notify);
  let sequence = afterSequence;
  try {
    while (!notifier.isStopped()) {
      // Reset before reading, so that an event that is committed during the read wakes the next wait.
      notifier.reset();
      const events = await whenDatabaseAnswers(notifier, () => runs.eventsAfter(viewer, runId, sequence));
      for (const event of events) {
        sequence = event.sequence;
        yield event;
      }
      if (events.length > 0) continue;
      const run = await whenDatabaseAnswers(notifier, () => runs.get(viewer, runId));
      if (run === undefined) return;
      // The last event was committed together with the last status, perhaps after the events were read.
      if (ENDED.has(run.status) && (await runs.eventsAfter(viewer, runId, sequence)).length === 0) return;
      if (!ENDED.has(run.status)) await notifier.wait(POLL_EVERY_MS);
    }
  } finally {
    unsubscribe();
  }
}

/** A running subscription waits while the database is unreachable, and misses no event. */
async function whenDatabaseAnswers<Result>(notifier: Notifier, work: () => Promise<Result>): Promise<Result> {
  for (;;) {
    try {
      return await work();
    } catch (error) {
      if (!isDatabaseFault(error) || notifier.isStopped()) throw error;
      notifier.reset();
      await notifier.wait(POLL_EVERY_MS);
    }
  }
}
