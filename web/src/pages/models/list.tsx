/** The list of models: named series of encoders. */
import { getRouteApi, Link } from '@tanstack/react-router';
import { usePaginatedQuery } from '../../api/hooks.ts';
import { count, counted } from '../../ui/format.ts';
import { Empty, Failure, Synthetic, Tag, useTitle } from '../../ui/parts.tsx';
import { columnsOf, DataTable } from '../../ui/table.tsx';
import { MODELS, type ModelRow } from './queries.ts';

const modelsRoute = getRouteApi('/models');

export function ModelsPage() {
  useTitle('Models');
  const { q } = modelsRoute.useSearch();
  const navigate = modelsRoute.useNavigate();
  const pages = usePaginatedQuery(
    MODELS,
    { filter: q === undefined ? {} : { search: q }, first: 50 },
    (data) => data.models.pageInfo,
  );
  const rows = pages.data?.pages.flatMap((page) => page.models.nodes);
  const total = pages.data?.pages[0]?.models.totalCount;
  return (
    <>
      <div className="head">
        <h1>Models</h1>
        <p className="soft">Encoders trained here, imported, or published by others.</p>
      </div>
      <label>
        <span className="hidden">Search models</span>
        <input
          type="search"
          placeholder="Search names …"
          value={q ?? ''}
          onChange={(event) =>
            void navigate({ search: { q: event.target.value === '' ? undefined : event.target.value }, replace: true })
          }
        />
      </label>
      <span role="status">{total === undefined ? ' ' : counted(total, 'model')}</span>
      {pages.isError && <Failure error={pages.error} />}
      {rows?.length === 0 && (
        <Empty title="No model matches">
          <Link to="/new" search={{ what: 'launchPretraining' }}>
            Pretrain one
          </Link>
        </Empty>
      )}
      {rows !== undefined && rows.length > 0 && (
        <div className="sheet">
          <DataTable caption="Models" rows={rows} columns={COLUMNS} idOf={(model) => model.id} numbers={['versions']} />
        </div>
      )}
      {pages.hasNextPage && (
        <button type="button" onClick={() => void pages.fetchNextPage()}>
          Show more
        </button>
      )}
    </>
  );
}

const column = columnsOf<ModelRow>();
const COLUMNS = column.columns([
  column.accessor('name', {
    header: 'Model',
    cell: ({ row: { original } }) => (
      <>
        <Link to="/models/$slug" params={{ slug: original.slug }}>
          {original.name}
        </Link>
        <div className="soft small">{original.slug}</div>
      </>
    ),
  }),
  column.display({
    id: 'encoder',
    header: 'Encoder',
    cell: ({ row }) => row.original.checkpoints.nodes[0]?.architecture.name ?? '',
  }),
  column.display({ id: 'versions', header: 'Versions', cell: ({ row }) => count(row.original.checkpoints.totalCount) }),
  column.display({
    id: 'aliases',
    header: 'Names',
    cell: ({ row }) => (
      <span className="tags">
        {row.original.aliases.map((alias) => (
          <Tag key={alias.name} tone="accent">
            {alias.name} → v{alias.checkpoint.version}
          </Tag>
        ))}
      </span>
    ),
  }),
  column.display({
    id: 'trained',
    header: 'Latest was trained on',
    cell: ({ row }) => <TrainedOn model={row.original} />,
  }),
  column.display({
    id: 'weights',
    header: 'Weights',
    cell: ({ row }) =>
      row.original.checkpoints.nodes[0]?.sha256 == null ? <Tag>source known</Tag> : <Tag tone="good">here</Tag>,
  }),
]);

function TrainedOn({ model }: { readonly model: ModelRow }) {
  const [latest] = model.checkpoints.nodes;
  const seen = latest?.trainedOn ?? [];
  if (seen.length === 0)
    return (
      <span className="soft">
        {latest === undefined || latest.isTrainingKnown
          ? 'nothing'
          : latest.publishedSlug === null
            ? 'not known'
            : 'see its published facts'}
      </span>
    );
  return (
    <>
      {seen.map(({ dataset }) => (
        <span key={dataset.name}>
          {dataset.name} {dataset.synthetic && <Synthetic />}{' '}
        </span>
      ))}
    </>
  );
}
