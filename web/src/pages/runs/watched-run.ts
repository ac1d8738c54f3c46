/** The current state of a run: the server's answer, updated with later events. */
import { useEffect, useMemo } from 'react';
import { useGraphQLQuery, useInvalidateQueries } from '../../api/hooks.ts';
import { useRunEvents, type RunEvent } from '../../api/live.ts';
import { inside } from '../../ui/format.ts';
import type { Series } from '../../ui/series.tsx';
import { RUN, type RunDetail } from './queries.ts';
import { isOver } from './words.tsx';

const POLL_EVERY_MS = 5_000;

export interface LiveState {
  readonly events: readonly RunEvent[];
  readonly status: string | undefined;
  readonly progress: number | undefined;
}

/** The server's answer for a run, and the events since. */
export function useWatchedRun(id: string | undefined) {
  const answer = useGraphQLQuery(RUN, { id: id ?? '' }, { enabled: id !== undefined });
  const known = answer.data?.run;
  const { events, isOver: isEnded } = useRunEvents(id, known !== undefined && known !== null && isOver(known.status));
  const { refetch } = answer;
  const invalidateQueries = useInvalidateQueries();
  // Only the query gives the attempt and the results, and the pages of the dataset and the model show them too: cached
  // answers would lack them. Data is fetched again only on a change of status, because a request at every metric would
  // cancel the previous one before its answer arrives.
  const lastStatusEvent = events.findLast(
    ({ kind, status }) => status !== null && kind !== 'METRICS' && kind !== 'PROGRESS',
  );
  const isBehind =
    known !== undefined &&
    known !== null &&
    lastStatusEvent !== undefined &&
    lastStatusEvent.sequence > known.eventCount;
  useEffect(() => {
    if (isBehind) invalidateQueries();
  }, [isBehind, lastStatusEvent?.sequence, invalidateQueries]);
  // Some changes send no event of this run: its position in the queue, and all changes after the connection has failed.
  const needsPolling =
    known !== undefined &&
    known !== null &&
    !isOver(known.status) &&
    (events.length === 0 || known.status === 'QUEUED' || isEnded || isUnplanned(known));
  useEffect(() => {
    if (!needsPolling) return undefined;
    const timer = setInterval(() => void refetch(), POLL_EVERY_MS);
    return () => clearInterval(timer);
  }, [needsPolling, refetch]);
  const series = useMemo(() => mergeSeries(known?.metrics ?? [], events), [known, events, events.length]);
  const latest = events.at(-1);
  return {
    answer,
    events,
    series,
    status:
      known !== undefined && known !== null && isOver(known.status)
        ? known.status
        : (lastStatusEvent?.status ?? known?.status),
    progress:
      latest === undefined
        ? known?.progress
        : (events.findLast((event) => event.progress !== null)?.progress ?? known?.progress),
  };
}

/** A pretraining with a budget before its worker has measured the device and planned it. */
function isUnplanned({ kind, config }: RunDetail): boolean {
  return kind === 'PRETRAINING' && inside(config, 'steps') === null;
}

/** Stored points, followed by those from later events. */
function mergeSeries(stored: RunDetail['metrics'], events: readonly RunEvent[]): ReadonlyMap<string, Series> {
  const series = new Map(
    stored.map(({ name, points }) => [
      name,
      { label: name, steps: points.map((point) => point.step), values: points.map((point) => point.value) },
    ]),
  );
  for (const { metrics } of events) {
    const step = inside(metrics, 'step');
    if (typeof step !== 'number' || typeof metrics !== 'object' || metrics === null) continue;
    for (const [name, value] of Object.entries(metrics)) {
      if (name === 'step' || typeof value !== 'number') continue;
      const known = series.get(name) ?? { label: name, steps: [], values: [] };
      if (step <= (known.steps.at(-1) ?? -1)) continue;
      known.steps.push(step);
      known.values.push(value);
      series.set(name, known);
    }
  }
  return series;
}
