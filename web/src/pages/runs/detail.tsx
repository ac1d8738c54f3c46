/** The page of one run, live; or of two side by side. */
import { getRouteApi, Link } from '@tanstack/react-router';
import { useEffect, useRef } from 'react';
import { useGraphQLQuery, useGraphQLMutation } from '../../api/hooks.ts';
import type { RunEvent } from '../../api/live.ts';
import { ContactSheet } from '../../ui/contact-sheet.tsx';
import { clock, count, duration, instant, score, words } from '../../ui/format.ts';
import { CheckpointLink, DatasetVersionLink } from '../../ui/links.tsx';
import { Empty, Fact, Facts, Failure, Loaded, Progress, Refusals, Snippet, useTitle } from '../../ui/parts.tsx';
import { ProbeVerdict } from '../../ui/probe.tsx';
import { Charts } from './charts.tsx';
import { ImportReport } from './import-report.tsx';
import { KeptStates } from './kept-states.tsx';
import { CANCEL_RUN, RESUME_RUN, RUNS, type RunDetail } from './queries.ts';
import { Placements } from './placements.tsx';
import { SideBySide } from './side-by-side.tsx';
import { useWatchedRun, type LiveState } from './watched-run.ts';
import { elapsedMs, isOver, Status } from './words.tsx';

const runRoute = getRouteApi('/runs/$id');

export function RunPage() {
  const { id } = runRoute.useParams();
  const { beside } = runRoute.useSearch();
  const run = useWatchedRun(id);
  const other = useWatchedRun(beside);
  const shown = run.answer.data?.run;
  useTitle(shown === undefined || shown === null ? 'Run' : shown.title);
  return (
    <Loaded of={run.answer}>
      {({ run: found }) =>
        found === null ? (
          <Empty title="This run does not exist">
            <Link to="/runs" search={{}}>
              To the runs
            </Link>
          </Empty>
        ) : beside === undefined ? (
          <>
            <Head run={found} live={run} />
            {found.importReport !== null && <ImportReport run={found} report={found.importReport} />}
            {found.datasetVersion !== null && <ContactSheet versionId={found.datasetVersion.id} />}
            <Charts runs={[{ run: found, series: run.series }]} />
            <KeptStates run={found} />
            <Placements run={found} />
            <Details run={found} live={run} />
          </>
        ) : (
          <Loaded of={other.answer}>
            {({ run: second }) =>
              second === null ? (
                <Empty title="The second run does not exist" />
              ) : (
                <SideBySide first={{ run: found, series: run.series }} second={{ run: second, series: other.series }} />
              )
            }
          </Loaded>
        )
      }
    </Loaded>
  );
}

function Head({ run, live }: { readonly run: RunDetail; readonly live: LiveState }) {
  const cancel = useGraphQLMutation(CANCEL_RUN);
  const resume = useGraphQLMutation(RESUME_RUN);
  const status = live.status ?? run.status;
  const progress = status === 'SUCCEEDED' ? 1 : (live.progress ?? run.progress);
  const elapsed = elapsedMs(run, Date.now());
  const left =
    status === 'RUNNING' && progress > 0.01 && elapsed !== undefined
      ? (elapsed * (1 - progress)) / progress
      : undefined;
  return (
    <div className="head">
      <span className="crumbs">
        <Link to="/runs" search={{}}>
          Runs
        </Link>{' '}
        / {run.id}
      </span>
      <div className="row between">
        <div className="row">
          <h1>{run.title}</h1>
          <Status status={status} queuePosition={status === 'QUEUED' ? run.queuePosition : null} />
        </div>
        <div className="row">
          <CompareSelect run={run} />
          {(status === 'QUEUED' || status === 'RUNNING') && (
            <button
              type="button"
              className="danger"
              onClick={() => cancel.mutate({ id: run.id })}
              disabled={cancel.isPending}
            >
              Cancel
            </button>
          )}
          {(status === 'FAILED' || status === 'CANCELED') && run.kind === 'PRETRAINING' && (
            <button
              type="button"
              className="primary"
              onClick={() => resume.mutate({ id: run.id })}
              disabled={resume.isPending}
            >
              Resume
            </button>
          )}
        </div>
      </div>
      <Progress value={progress} state={!isOver(status) ? 'busy' : status === 'SUCCEEDED' ? 'done' : 'ended'} />
      <p className="soft small" role="status">
        {words(run.kind)}, {Math.round(progress * 100)} % {elapsed === undefined ? '' : `· ${duration(elapsed)}`}{' '}
        {left === undefined ? '' : `· about ${duration(left)} left`} {run.attempt > 1 ? `· attempt ${run.attempt}` : ''}
      </p>
      {run.requirements.sentence !== null && !isOver(status) && (
        <p className="soft small">Needs {run.requirements.sentence}</p>
      )}
      {run.placements[0] !== undefined && !isOver(status) && (
        <p role="status">On the cluster: {run.placements[0].sentence}</p>
      )}
      {run.obstacle !== null && status === 'QUEUED' && (
        <div className="notice warn" role="status">
          <span>No living worker can take this run: {run.obstacle}.</span>
        </div>
      )}
      {cancel.isError && <Failure error={cancel.error} />}
      {resume.isError && <Failure error={resume.error} />}
      <Refusals errors={[...(cancel.data?.cancelRun.userErrors ?? []), ...(resume.data?.resumeRun.userErrors ?? [])]} />
      {run.failure !== null && status !== 'RUNNING' && status !== 'QUEUED' && (
        <div className="notice bad" role="alert">
          <strong>Failed: {run.failure.message}</strong>
          {run.failure.hint !== null && <span>What to do: {run.failure.hint}</span>}
          <span className="soft small">
            {FAILURE_CAUSES[run.failure.class] ?? run.failure.class} · {run.failure.code}
          </span>
        </div>
      )}
      <RunResults run={run} />
    </div>
  );
}

/** What caused a failure, by its class. */
const FAILURE_CAUSES: Readonly<Record<string, string>> = {
  USER: 'Cause: the request',
  DATA: 'Cause: the data',
  OUT_OF_MEMORY: 'Cause: memory',
  INFRASTRUCTURE: 'Cause: the machine',
  TIMEOUT: 'Cause: time',
  INTERNAL: 'Cause: an error of Paraffin',
};

/** The newest pretrainings; any other is selected by its id. */
const OFFERED_RUNS = 30;

function CompareSelect({ run }: { readonly run: RunDetail }) {
  const navigate = runRoute.useNavigate();
  const others = useGraphQLQuery(
    RUNS,
    { filter: { kinds: ['PRETRAINING'] }, first: OFFERED_RUNS },
    { enabled: run.kind === 'PRETRAINING' },
  );
  if (run.kind !== 'PRETRAINING') return null;
  return (
    <form
      className="row"
      onSubmit={(event) => {
        event.preventDefault();
        const beside = String(new FormData(event.currentTarget).get('beside')).trim();
        if (beside !== '') void navigate({ search: { beside } });
      }}
    >
      <label>
        <span className="hidden">Run to compare with</span>
        <input
          name="beside"
          list="others"
          placeholder="id of another run"
          autoComplete="off"
          style={{ width: '11rem' }}
        />
        <datalist id="others">
          {others.data?.runs.nodes
            .filter((other) => other.id !== run.id)
            .map((other) => (
              <option key={other.id} value={other.id}>{`${other.title}, ${instant(other.queuedAt)}`}</option>
            ))}
        </datalist>
      </label>
      <button type="submit">Side by side</button>
    </form>
  );
}

function RunResults({ run }: { readonly run: RunDetail }) {
  const { datasetVersion, checkpoints, evaluation } = run;
  return (
    <>
      {datasetVersion !== null && (
        <p>
          Images: <DatasetVersionLink version={datasetVersion} />, {count(datasetVersion.imageCount)} of them
        </p>
      )}
      {checkpoints.map((checkpoint) => (
        <p key={checkpoint.id}>
          Made: <CheckpointLink checkpoint={checkpoint} />
          {checkpoint.step === null ? '' : `, step ${count(checkpoint.step)}`}
          {checkpoint.probe !== null && <ProbeVerdict probe={checkpoint.probe} />}
        </p>
      ))}
      {evaluation !== null && (
        <p>
          <Link to="/evaluations/$id" params={{ id: evaluation.id }}>
            Found
          </Link>
          : {evaluation.metrics.map((metric) => `${metric.name} ${score(metric.value)}`).join(', ')}
        </p>
      )}
    </>
  );
}

function Details({ run, live }: { readonly run: RunDetail; readonly live: LiveState }) {
  return (
    <div className="columns">
      <section className="sheet" aria-labelledby="log">
        <h2 id="log">Log</h2>
        <Log events={live.events} />
      </section>
      {run.explanation.length > 0 && (
        <section className="sheet" aria-labelledby="explanation">
          <h2 id="explanation">Why these settings</h2>
          <ul>
            {run.explanation.map((sentence) => (
              <li key={sentence}>{sentence}</li>
            ))}
          </ul>
        </section>
      )}
      <section className="sheet" aria-labelledby="facts">
        <h2 id="facts">Settings</h2>
        <Facts>
          <Fact name="Queued">{instant(run.queuedAt)}</Fact>
          <Fact name="Started">{run.startedAt === null ? 'not yet' : instant(run.startedAt)}</Fact>
          <Fact name="Ended">{run.finishedAt === null ? 'not yet' : instant(run.finishedAt)}</Fact>
        </Facts>
        <Snippet label="Config, frozen at launch" text={JSON.stringify(run.config, null, 2)} />
        {run.environment !== null && <Snippet label="Environment" text={JSON.stringify(run.environment, null, 2)} />}
      </section>
    </div>
  );
}

/** Limit of lines shown in the browser. */
const LOG_LINES_MAX = 500;

function Log({ events }: { readonly events: readonly RunEvent[] }) {
  const list = useRef<HTMLOListElement>(null);
  const lines = events.filter((event) => event.kind !== 'METRICS' || event.message !== null).slice(-LOG_LINES_MAX);
  useEffect(() => {
    list.current?.scrollTo({ top: list.current.scrollHeight });
  }, [lines.length]);
  if (lines.length === 0) return <p className="soft">Nothing yet.</p>;
  return (
    <ol className="log" ref={list} tabIndex={0} aria-label="Events of the run">
      {lines.map((event) => (
        <li key={event.sequence}>
          <time dateTime={event.at}>{clock(event.at)}</time>
          <span>{event.kind}</span>
          <span className="wrap">
            {event.message ?? (event.progress === null ? '' : `${Math.round(event.progress * 100)} %`)}
          </span>
        </li>
      ))}
    </ol>
  );
}
