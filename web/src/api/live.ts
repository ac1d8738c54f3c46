/** Live events of a run, over one WebSocket for the whole page. */
import { print } from '@0no-co/graphql.web';
import { createClient, type Client } from 'graphql-ws';
import { useEffect, useReducer, useRef } from 'react';
import { graphql, type ResultOf } from './graphql.ts';
import { useSessionNumber } from './hooks.ts';
import { onSessionChange } from './session.ts';

export const RUN_EVENTS = graphql(`
  subscription RunEvents($runId: ID!, $after: Int) {
    runEvents(runId: $runId, afterSequence: $after) {
      sequence
      at
      kind
      status
      progress
      message
      metrics
    }
  }
`);

export type RunEvent = ResultOf<typeof RUN_EVENTS>['runEvents'];

let shared: Client | undefined;

function client(): Client {
  shared ??= createClient({
    url: `${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}/graphql`,
    retryAttempts: 20,
    shouldRetry: () => true,
  });
  return shared;
}

onSessionChange(() => {
  // The next client is created with the new session.
  void shared?.dispose();
  shared = undefined;
});

/** Events are shown at most a few times a second, independent of their number. */
const SHOW_EVERY_MS = 150;

/**
 * Every event of a run from its first, then live until the run has ended. The same array grows in place.
 * @param runId undefined follows no run. `isOver` means that no more events will come: the run has ended, or the
 * connection failed permanently.
 * @param isKnownOver whether the server has reported the end of the run. A run that is resumed after its end is
 * followed again.
 */
export function useRunEvents(
  runId: string | undefined,
  isKnownOver: boolean,
): { readonly events: readonly RunEvent[]; readonly isOver: boolean } {
  const [, show] = useReducer((count: number) => count + 1, 0);
  const followed = useRef<{ runId: string | undefined; events: RunEvent[]; isOver: boolean }>({
    runId: undefined,
    events: [],
    isOver: false,
  });
  const session = useSessionNumber();
  if (followed.current.runId !== runId) followed.current = { runId, events: [], isOver: false };

  useEffect(() => {
    if (runId === undefined || (isKnownOver && followed.current.isOver)) return undefined;
    const state = { runId, events: [...followed.current.events], isOver: false };
    followed.current = state;
    let timer: number | undefined;
    const showSoon = (): void => {
      timer ??= window.setTimeout(() => {
        timer = undefined;
        show();
      }, SHOW_EVERY_MS);
    };
    const end = (): void => {
      state.isOver = true;
      showSoon();
    };
    const stop = client().subscribe<ResultOf<typeof RUN_EVENTS>>(
      { query: print(RUN_EVENTS), variables: { runId, after: state.events.at(-1)?.sequence ?? 0 } },
      {
        next: ({ data }) => {
          const event = data?.runEvents;
          // After a reconnection the server repeats the events from the first requested one.
          if (event === undefined || event.sequence <= (state.events.at(-1)?.sequence ?? 0)) return;
          state.events.push(event);
          showSoon();
        },
        error: end,
        complete: end,
      },
    );
    return () => {
      window.clearTimeout(timer);
      stop();
    };
  }, [runId, session, isKnownOver]);

  return followed.current;
}
