/** One run, live; or two side by side. */
import { getRouteApi, Link } from '@tanstack/react-router';
import { useEffect, useMemo, useRef } from 'react';
import { useAsk, useChange, useForgetAnswers } from '../../api/hooks.ts';
import { useRunEvents, type RunEvent } from '../../api/live.ts';
import { clock, count, duration, inside, instant, score, short, words } from '../../ui/format.ts';
import { Empty, Fact, Facts, Failure, Loaded, Progress, Refusals, Snippet, Tag, useTitle } from '../../ui/parts.tsx';
import { SeriesChart, type Series } from '../../ui/series.tsx';
import { ImportReport } from './import-report.tsx';
import { CANCEL_RUN, REGISTER_STATE, RESUME_RUN, RUN, RUNS, type RunDetail } from './queries.ts';
import { ProbeVerdict } from '../../ui/probe.tsx';
import { elapsedMs, isOver, Status } from './words.tsx';

const runRoute = getRouteApi('/runs/$id');

/** The series that a person watches a pretraining by. */
const CHARTS = [
  { name: 'loss', title: 'Loss', meaning: 'NT-Xent, mean over both views: lower is better.' },
  { name: 'learningRate', title: 'Learning rate', meaning: 'Warm-up, then a cosine.' },
  { name: 'imagesPerSecond', title: 'Images per second', meaning: 'Of the last ten steps.' },
  {
    name: 'positiveSimilarity',
    title: 'Positive similarity',
    meaning: 'Cosine between two views of one image: 1 is the same direction.',
  },
  {
    name: 'embeddingStd',
    title: 'Collapse indicator',
    meaning: 'Spread of the embeddings: near 0, all images look alike to the encoder.',
    levels: [{ value: 0, label: 'collapsed' }],
  },
] as const;

/** The run's own probe, with what it has to beat. */
const PROBE_CHARTS = [
  {
    name: 'probeRidgeMacroF1',
    title: 'Probe, linear',
    meaning: 'Macro F1 of a ridge regression on labelled images: higher is better.',
    levels: { probeRandomRidgeMacroF1: 'random encoder', probeColourRidgeMacroF1: 'colour statistics' },
  },
  {
    name: 'probeKnnMacroF1',
    title: 'Probe, nearest neighbours',
    meaning: 'Macro F1 of kNN on the same images.',
    levels: { probeRandomKnnMacroF1: 'random encoder', probeColourKnnMacroF1: 'colour statistics' },
  },
] as const;

const LOOK_AGAIN_MS = 5_000;

export function RunPage() {
  const { id } = runRoute.useParams();
  const { beside } = runRoute.useSearch();
  const run = useWatched(id);
  const other = useWatched(beside);
  const shown = run.answer.data?.run;
  useTitle(shown === undefined || shown === null ? 'Run' : shown.title);
  return (
    <Loaded of={run.answer}>
      {({ run: found }) =>
        found === null ? (
          <Empty title="There is no such run">
            <Link to="/runs" search={{}}>
              To the runs
            </Link>
          </Empty>
        ) : beside === undefined ? (
          <>
            <Head run={found} live={run} />
            {found.importReport !== null && <ImportReport run={found} report={found.importReport} />}
            <Charts runs={[{ run: found, series: run.series }]} />
            <KeptStates run={found} />
            <Details run={found} live={run} />
          </>
        ) : (
          <Loaded of={other.answer}>
            {({ run: second }) =>
              second === null ? (
                <Empty title="There is no such second run" />
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

interface Live {
  readonly events: readonly RunEvent[];
  readonly status: string | undefined;
  readonly progress: number | undefined;
}

/** What the server knows of a run, and what has happened since. */
function useWatched(id: string | undefined) {
  const answer = useAsk(RUN, { id: id ?? '' }, { enabled: id !== undefined });
  const known = answer.data?.run;
  const { events, isOver: isEnded } = useRunEvents(id, known !== undefined && known !== null && isOver(known.status));
  const { refetch } = answer;
  const forgetAnswers = useForgetAnswers();
  // Which attempt it is and what came of it are told by the query alone, and the pages of the dataset and the model
  // show it too: an answer fetched seconds ago would say there that nothing came of the run. Only turns count: to ask
  // again at every metric would break off each answer before it comes.
  const lastTurn = events.findLast(({ kind, status }) => status !== null && kind !== 'METRICS' && kind !== 'PROGRESS');
  const isBehind =
    known !== undefined && known !== null && lastTurn !== undefined && lastTurn.sequence > known.eventCount;
  useEffect(() => {
    if (isBehind) forgetAnswers();
  }, [isBehind, lastTurn?.sequence, forgetAnswers]);
  // The place in the queue moves without an event of this run; a feed that broke off tells of nothing any more.
  const isUntold =
    known !== undefined &&
    known !== null &&
    !isOver(known.status) &&
    (events.length === 0 || known.status === 'QUEUED' || isEnded || isUnplanned(known));
  useEffect(() => {
    if (!isUntold) return undefined;
    const timer = setInterval(() => void refetch(), LOOK_AGAIN_MS);
    return () => clearInterval(timer);
  }, [isUntold, refetch]);
  const series = useMemo(() => mergeSeries(known?.metrics ?? [], events), [known, events, events.length]);
  const latest = events.at(-1);
  return {
    answer,
    events,
    series,
    status:
      known !== undefined && known !== null && isOver(known.status)
        ? known.status
        : (lastTurn?.status ?? known?.status),
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

/** Stored points, and those that came after them. */
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

function Head({ run, live }: { readonly run: RunDetail; readonly live: Live }) {
  const cancel = useChange(CANCEL_RUN);
  const resume = useChange(RESUME_RUN);
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
          <Compare run={run} />
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
      {cancel.isError && <Failure error={cancel.error} />}
      {resume.isError && <Failure error={resume.error} />}
      <Refusals errors={[...(cancel.data?.cancelRun.userErrors ?? []), ...(resume.data?.resumeRun.userErrors ?? [])]} />
      {run.failure !== null && status !== 'RUNNING' && status !== 'QUEUED' && (
        <div className="notice bad" role="alert">
          <strong>Failed: {run.failure.message}</strong>
          {run.failure.hint !== null && <span>What to do: {run.failure.hint}</span>}
          <span className="soft small">
            {WHOSE_MATTER[run.failure.class] ?? run.failure.class} · {run.failure.code}
          </span>
        </div>
      )}
      <Made run={run} />
    </div>
  );
}

const WHOSE_MATTER: Readonly<Record<string, string>> = {
  USER: 'Cause: the request',
  DATA: 'Cause: the data',
  OUT_OF_MEMORY: 'Cause: memory',
  INFRASTRUCTURE: 'Cause: the machine',
  TIMEOUT: 'Cause: time',
  INTERNAL: 'A fault of Paraffin',
};

/** The newest pretrainings; any other is named by its id. */
const OFFERED_RUNS = 30;

function Compare({ run }: { readonly run: RunDetail }) {
  const navigate = runRoute.useNavigate();
  const others = useAsk(
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
        <span className="hidden">Run to set beside</span>
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

function Made({ run }: { readonly run: RunDetail }) {
  const { datasetVersion, checkpoints, evaluation } = run;
  return (
    <>
      {datasetVersion !== null && (
        <p>
          Images:{' '}
          <Link
            to="/datasets/$slug"
            params={{ slug: datasetVersion.dataset.slug }}
            search={{ version: String(datasetVersion.version) }}
          >
            {datasetVersion.dataset.name} v{datasetVersion.version}
          </Link>
          , {count(datasetVersion.imageCount)} of them
        </p>
      )}
      {checkpoints.map((checkpoint) => (
        <p key={checkpoint.id}>
          Made:{' '}
          <Link
            to="/models/$slug"
            params={{ slug: checkpoint.model.slug }}
            search={{ version: String(checkpoint.version) }}
          >
            {checkpoint.model.name} v{checkpoint.version}
          </Link>
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

interface Watched {
  readonly run: RunDetail;
  readonly series: ReadonlyMap<string, Series>;
}

function Charts({ runs }: { readonly runs: readonly Watched[] }) {
  if (runs.every(({ series }) => series.size === 0)) return null;
  const labelOf = (index: number, name: string): string =>
    runs.length === 1 ? name : index === 0 ? 'first' : 'second';
  return (
    <div className="columns">
      {PROBE_CHARTS.map(({ name, title, meaning, levels }) => {
        const series = runs.flatMap(({ series: known }, index) => {
          const found = known.get(name);
          return found === undefined ? [] : [{ ...found, label: labelOf(index, 'this encoder') }];
        });
        // Of two runs the lines are each one's own: then the curves alone are compared.
        const lines =
          runs.length > 1
            ? []
            : Object.entries(levels).flatMap(([line, label]) => {
                const value = runs[0]?.series.get(line)?.values[0];
                return value === undefined ? [] : [{ value, label }];
              });
        return series.length === 0 ? null : (
          <SeriesChart key={name} title={title} meaning={meaning} series={series} levels={lines} />
        );
      })}
      {CHARTS.map(({ name, title, meaning, ...rest }) => {
        const series = runs.flatMap(({ series: known }, index) => {
          const found = known.get(name);
          return found === undefined ? [] : [{ ...found, label: labelOf(index, name) }];
        });
        return series.length === 0 ? null : (
          <SeriesChart
            key={name}
            title={title}
            meaning={meaning}
            series={series}
            {...('levels' in rest ? { levels: rest.levels } : {})}
          />
        );
      })}
    </div>
  );
}

/** What is kept of the training: any of it can become a version of the model. */
function KeptStates({ run }: { readonly run: RunDetail }) {
  const register = useChange(REGISTER_STATE);
  if (run.trainingStates.length === 0) return null;
  return (
    <section className="sheet" aria-labelledby="states">
      <h2 id="states">Kept states</h2>
      <div className="scroll">
        <table>
          <thead>
            <tr>
              <th scope="col">Step</th>
              <th scope="col">Kept</th>
              <th scope="col">Probe, linear</th>
              <th scope="col">Checkpoint</th>
            </tr>
          </thead>
          <tbody>
            {run.trainingStates.map((state) => (
              <tr key={state.step}>
                <th scope="row">{count(state.step)}</th>
                <td>{instant(state.keptAt)}</td>
                <td>
                  {state.probe === null ? 'not probed' : score(state.probe.ridgeMacroF1)}{' '}
                  {state.isBest && <Tag tone="good">best</Tag>}
                </td>
                <td>
                  {state.checkpoint === null ? (
                    <button
                      type="button"
                      onClick={() => register.mutate({ input: { runId: run.id, step: state.step } })}
                      disabled={register.isPending}
                    >
                      Register this state
                    </button>
                  ) : (
                    <Link
                      to="/models/$slug"
                      params={{ slug: state.checkpoint.model.slug }}
                      search={{ version: String(state.checkpoint.version) }}
                    >
                      {state.checkpoint.model.name} v{state.checkpoint.version}
                    </Link>
                  )}
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      {register.isError && <Failure error={register.error} />}
      <Refusals errors={[...(register.data?.registerTrainingState.userErrors ?? [])]} />
    </section>
  );
}

function Details({ run, live }: { readonly run: RunDetail; readonly live: Live }) {
  return (
    <div className="columns">
      <section className="sheet" aria-labelledby="log">
        <h2 id="log">Log</h2>
        <Log events={live.events} />
      </section>
      {run.explanation.length > 0 && (
        <section className="sheet" aria-labelledby="explanation">
          <h2 id="explanation">Why it trains so</h2>
          <ul>
            {run.explanation.map((sentence) => (
              <li key={sentence}>{sentence}</li>
            ))}
          </ul>
        </section>
      )}
      <section className="sheet" aria-labelledby="facts">
        <h2 id="facts">What it was asked to do</h2>
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

/** Lines beyond these are not looked at in a browser. */
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

function SideBySide({ first, second }: { readonly first: Watched; readonly second: Watched }) {
  const rows = differences(first.run.config, second.run.config);
  return (
    <>
      <div className="head">
        <span className="crumbs">
          <Link to="/runs" search={{}}>
            Runs
          </Link>{' '}
          / side by side
        </span>
        <h1>Two runs side by side</h1>
        {[first, second].map(({ run }, index) => (
          <p key={run.id}>
            {index === 0 ? 'First' : 'Second'}:{' '}
            <Link to="/runs/$id" params={{ id: run.id }}>
              {run.title}
            </Link>{' '}
            <Status status={run.status} />
          </p>
        ))}
      </div>
      <Charts runs={[first, second]} />
      <section className="sheet" aria-labelledby="differences">
        <h2 id="differences">Where they differ</h2>
        {rows.length === 0 ? (
          <p className="soft">They were asked to do the same.</p>
        ) : (
          <div className="scroll">
            <table>
              <thead>
                <tr>
                  <th scope="col">Setting</th>
                  <th scope="col">First</th>
                  <th scope="col">Second</th>
                </tr>
              </thead>
              <tbody>
                {rows.map(({ name, values: [left, right] }) => (
                  <tr key={name}>
                    <th scope="row">{name}</th>
                    <td className="mono wrap">{left}</td>
                    <td className="mono wrap">{right}</td>
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
        )}
      </section>
    </>
  );
}

function differences(
  first: unknown,
  second: unknown,
): { readonly name: string; readonly values: readonly [string, string] }[] {
  const names = [
    ...new Set(
      [first, second].flatMap((config) => (typeof config === 'object' && config !== null ? Object.keys(config) : [])),
    ),
  ];
  return names.flatMap((name) => {
    const [left, right] = [inside(first, name), inside(second, name)].map((value) =>
      typeof value === 'number' ? short(value) : (JSON.stringify(value) ?? ''),
    );
    return left === undefined || right === undefined || left === right ? [] : [{ name, values: [left, right] }];
  });
}
