/** The list of runs: running, queued and ended. */
import { getRouteApi, Link } from '@tanstack/react-router';
import { oneOf } from '../../app/search.ts';
import { useGraphQLQuery, usePaginatedQuery } from '../../api/hooks.ts';
import { FilterSelect } from '../../ui/filter-select.tsx';
import { count, duration, instant, words } from '../../ui/format.ts';
import { Empty, Failure, Loaded, Progress, useTitle } from '../../ui/parts.tsx';
import { columnsOf, DataTable } from '../../ui/table.tsx';
import { ACTIVE_RUNS, RUNS, type RunRow } from './queries.ts';
import { elapsedMs, isOver, Status } from './words.tsx';

const runsRoute = getRouteApi('/runs');

const POLL_EVERY_MS = 2_000;
const ACTIVE_SHOWN = 20;
const PAGE_SIZE = 50;
const KINDS = ['IMPORT', 'PRETRAINING', 'EVALUATION', 'EMBEDDING', 'EXPORT'] as const;
const STATUSES = ['QUEUED', 'RUNNING', 'CANCELING', 'SUCCEEDED', 'FAILED', 'CANCELED'] as const;

export function RunsPage() {
  useTitle('Runs');
  const search = runsRoute.useSearch();
  const kinds = (search.kind ?? []).flatMap((kind) => oneOf(KINDS, kind) ?? []);
  const statuses = (search.status ?? []).flatMap((status) => oneOf(STATUSES, status) ?? []);
  const pages = usePaginatedQuery(
    RUNS,
    { filter: { kinds, statuses }, first: PAGE_SIZE },
    (data) => data.runs.pageInfo,
  );
  const rows = pages.data?.pages.flatMap((page) => page.runs.nodes);
  return (
    <>
      <div className="head">
        <h1>Runs</h1>
        <p className="soft">Imports, pretrainings, embeddings, evaluations and exports. Open a run to watch it live.</p>
      </div>
      <Active />
      <section className="sheet" aria-labelledby="all">
        <h2 id="all">All runs, newest first</h2>
        <Filters search={search} />
        {pages.isError && <Failure error={pages.error} />}
        {rows?.length === 0 &&
          (kinds.length + statuses.length > 0 ? (
            <Empty title="No run matches" />
          ) : (
            <Empty title="There are no runs yet">
              <Link to="/new" search={{}}>
                Start a run
              </Link>
            </Empty>
          ))}
        {rows !== undefined && rows.length > 0 && (
          <DataTable caption="All runs" rows={rows} columns={COLUMNS} idOf={(run) => run.id} />
        )}
        {pages.hasNextPage && (
          <button type="button" onClick={() => void pages.fetchNextPage()} disabled={pages.isFetchingNextPage}>
            Show more
          </button>
        )}
      </section>
    </>
  );
}

function Active() {
  const active = useGraphQLQuery(ACTIVE_RUNS, { first: ACTIVE_SHOWN }, { refetchMs: POLL_EVERY_MS });
  return (
    <section className="sheet" aria-labelledby="active">
      <h2 id="active">Running and waiting</h2>
      <Loaded of={active}>
        {({ running, waiting }) => {
          const rows = [...running.nodes, ...waiting.nodes];
          if (rows.length === 0) return <p className="soft">No runs are running or queued.</p>;
          return (
            <>
              <DataTable caption="Running and waiting" rows={rows} columns={COLUMNS} idOf={(run) => run.id} />
              {waiting.nodes.length < waiting.totalCount && (
                <p>
                  <Link to="/runs" search={{ status: ['QUEUED'] }} hash="all">
                    All {count(waiting.totalCount)} that wait
                  </Link>
                </p>
              )}
            </>
          );
        }}
      </Loaded>
    </section>
  );
}

function Filters({ search }: { readonly search: ReturnType<typeof runsRoute.useSearch> }) {
  const navigate = runsRoute.useNavigate();
  const choose = (name: 'kind' | 'status', value: string): void =>
    void navigate({ search: { ...search, [name]: value === '' ? undefined : [value] }, resetScroll: false });
  return (
    <div className="row">
      <FilterSelect label="Kind" value={search.kind?.[0]} choices={KINDS} onChoose={(value) => choose('kind', value)} />
      <FilterSelect
        label="Status"
        value={search.status?.[0]}
        choices={STATUSES}
        onChoose={(value) => choose('status', value)}
      />
    </div>
  );
}

const column = columnsOf<RunRow>();
const COLUMNS = column.columns([
  column.display({
    id: 'run',
    header: 'Run',
    cell: ({ row: { original } }) => (
      <Link to="/runs/$id" params={{ id: original.id }}>
        {original.title}
      </Link>
    ),
  }),
  column.display({ id: 'kind', header: 'Kind', cell: ({ row }) => words(row.original.kind) }),
  column.display({
    id: 'status',
    header: 'Status',
    cell: ({ row }) => <Status status={row.original.status} queuePosition={row.original.queuePosition} />,
  }),
  column.display({
    id: 'progress',
    header: 'Progress',
    cell: ({ row: { original } }) =>
      original.failure !== null ? (
        <span className="small wrap">{original.failure.message}</span>
      ) : (
        <Progress
          value={original.progress}
          state={!isOver(original.status) ? 'busy' : original.status === 'SUCCEEDED' ? 'done' : 'ended'}
        />
      ),
  }),
  column.display({
    id: 'queued',
    header: 'Queued',
    cell: ({ row }) => <span className="small">{instant(row.original.queuedAt)}</span>,
  }),
  column.display({ id: 'took', header: 'Took', cell: ({ row }) => <DurationCell run={row.original} /> }),
]);

function DurationCell({ run }: { readonly run: RunRow }) {
  const ms = elapsedMs(run, Date.now());
  return <span className="small">{ms === undefined ? '' : duration(ms)}</span>;
}
