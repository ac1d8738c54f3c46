/** Live events of runs: stored events first, then those that PostgreSQL announces. */
import { DomainError } from '../errors.ts';
import type { Viewer } from '../modules/access/index.ts';
import type { RunEventRecord, RunService } from '../modules/runs/index.ts';
import { createBell, type Bell } from '../platform/bell.ts';

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
    follow(viewer, runId, afterSequence) {
      const bell = createBell();
      const events = eventsOf({ runs, announcements, viewer, runId, afterSequence, bell });
      // A generator hears that its reader left only at its next event; the bell makes it look at once, so that nothing
      // asks the database for a reader who is gone, least of all after the server has closed it.
      const leave = events.return.bind(events);
      events.return = (value) => {
        bell.stop();
        return leave(value);
      };
      return events;
    },
  };
}

interface Following {
  readonly runs: RunService;
  readonly announcements: RunAnnouncements;
  readonly viewer: Viewer;
  readonly runId: string;
  readonly afterSequence: number;
  readonly bell: Bell;
}

async function* eventsOf({
  runs,
  announcements,
  viewer,
  runId,
  afterSequence,
  bell,
}: Following): AsyncGenerator<RunEventRecord, void, undefined> {
  if ((await runs.get(viewer, runId)) === undefined) {
    throw new DomainError({
      code: 'RUN_NOT_FOUND',
      message: 'There is no run with this id.',
      field: 'runId',
      hint: 'List them with the query runs.',
    });
  }
  const unsubscribe = announcements.subscribe(runId, bell.ring);
  let sequence = afterSequence;
  try {
    while (!bell.isStopped()) {
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
      // Its last event was committed with its last status, perhaps after we read the events.
      if (ENDED.has(run.status) && (await runs.eventsAfter(viewer, runId, sequence)).length === 0) return;
      if (!ENDED.has(run.status)) await bell.wait(LOOK_AGAIN_MS);
    }
  } finally {
    unsubscribe();
  }
}
