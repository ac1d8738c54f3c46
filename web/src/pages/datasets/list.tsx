/** Datasets: facets with counts, search as you type, table or cards. */
import { getRouteApi, Link } from '@tanstack/react-router';
import { useDeferredValue, useEffect, useState } from 'react';
import { DATASET_ORDERS } from '../../app/choices.ts';
import { oneOf } from '../../app/search.ts';
import { useGraphQLQuery, usePaginatedQuery } from '../../api/hooks.ts';
import type { VariablesOf } from '../../api/graphql.ts';
import { count, counted, words } from '../../ui/format.ts';
import { useMedia } from '../../ui/media.ts';
import { Empty, Failure, Loaded, Synthetic, Tag, useTitle } from '../../ui/parts.tsx';
import { columnsOf, DataTable } from '../../ui/table.tsx';
import { Provenance, PROVENANCE_WORDS, resolutionsText } from './facts.tsx';
import { DATASET_FACETS, DATASETS, type DatasetFacets, type DatasetRow } from './queries.ts';

const datasetsRoute = getRouteApi('/datasets');

type Search = ReturnType<typeof datasetsRoute.useSearch>;
type Filter = NonNullable<VariablesOf<typeof DATASETS>['filter']>;

const PAGE_SIZE = 60;
const TASKS = [
  'CLASSIFICATION',
  'DETECTION',
  'REGISTRATION',
  'REGRESSION',
  'RETRIEVAL',
  'SEGMENTATION',
  'SURVIVAL',
] as const;
const KINDS = ['PATCH', 'ROI', 'TMA', 'WSI'] as const;
const PROVENANCES = ['CANDIDATE', 'LOCAL', 'OTHER_SOURCE', 'PAPER_TABLE', 'PAPER_TEXT'] as const;

function filterOf(search: Search): Filter {
  const known = <Value extends string>(values: readonly Value[], chosen: readonly string[] | undefined): Value[] =>
    (chosen ?? []).flatMap((value) => oneOf(values, value) ?? []);
  const number = (text: string | undefined): number | undefined =>
    text === undefined || !Number.isFinite(Number(text)) ? undefined : Number(text);
  const magnification = number(search.magnification);
  const micronsPerPixel = number(search.micronsPerPixel);
  return {
    ...(search.q === undefined ? {} : { search: search.q }),
    ...(search.organ === undefined ? {} : { organs: search.organ }),
    ...(search.stain === undefined ? {} : { stains: search.stain }),
    ...(search.licence === undefined ? {} : { licences: search.licence }),
    ...(search.kind === undefined ? {} : { imageKinds: known(KINDS, search.kind) }),
    ...(search.task === undefined ? {} : { tasks: known(TASKS, search.task) }),
    ...(search.provenance === undefined ? {} : { provenances: known(PROVENANCES, search.provenance) }),
    ...(magnification === undefined ? {} : { magnification: { min: magnification, max: magnification } }),
    ...(micronsPerPixel === undefined ? {} : { micronsPerPixel: { max: micronsPerPixel } }),
    ...(search.images === undefined ? {} : { hasVersions: true }),
  };
}

export function DatasetsPage() {
  useTitle('Datasets');
  const search = datasetsRoute.useSearch();
  const filter = filterOf(search);
  const facets = useGraphQLQuery(DATASET_FACETS, { filter });
  const field = search.order ?? (search.q === undefined ? 'NAME' : 'RELEVANCE');
  const order = field === 'RELEVANCE' && search.q === undefined ? 'NAME' : field;
  const direction = search.direction ?? (order === 'RELEVANCE' ? 'DESC' : 'ASC');
  const pages = usePaginatedQuery(
    DATASETS,
    { filter, orderBy: { field: order, direction }, first: PAGE_SIZE },
    (data) => data.datasets.pageInfo,
  );
  const rows = pages.data?.pages.flatMap((page) => page.datasets.nodes) ?? [];
  const total = pages.data?.pages[0]?.datasets.totalCount;
  const isNarrow = useMedia('(max-width: 900px)');
  const view = search.view ?? (isNarrow ? 'cards' : 'table');
  const isNarrowed = Object.keys(filter).length > 0;

  return (
    <>
      <div className="head">
        <h1>Datasets</h1>
        <p className="soft">
          Each fact has a source; unknown facts are left empty. <em>Provenance</em> states how a dataset relates to the
          paper.
        </p>
      </div>
      <div className="browse">
        <details className="facets-fold" open={!isNarrow}>
          <summary className="button">Filters</summary>
          <aside className="facets" aria-label="Filters">
            <Loaded of={facets}>{(data) => <Facets facets={data.datasetFacets} search={search} />}</Loaded>
          </aside>
        </details>
        <section className="stack" aria-label="Matching datasets">
          <Toolbar search={search} view={view} />
          <div className="row between">
            <span role="status">{total === undefined ? ' ' : counted(total, 'dataset')}</span>
            {isNarrowed && (
              <Link to="/datasets" search={{ view: search.view }}>
                Clear all
              </Link>
            )}
          </div>
          {pages.isError && <Failure error={pages.error} />}
          {total === 0 ? (
            <NothingFound isNarrowed={isNarrowed} />
          ) : view === 'cards' ? (
            <Cards rows={rows} />
          ) : (
            <Rows rows={rows} order={order} direction={direction} />
          )}
          {pages.hasNextPage && (
            <button type="button" onClick={() => void pages.fetchNextPage()} disabled={pages.isFetchingNextPage}>
              Show more
            </button>
          )}
        </section>
      </div>
    </>
  );
}

function NothingFound({ isNarrowed }: { readonly isNarrowed: boolean }) {
  return isNarrowed ? (
    <Empty title="No dataset matches">
      <span>Remove a filter, or search for fewer words.</span>
    </Empty>
  ) : (
    <Empty title="The catalogue is empty" />
  );
}

function Toolbar({ search, view }: { readonly search: Search; readonly view: 'cards' | 'table' }) {
  const navigate = datasetsRoute.useNavigate();
  const [text, setText] = useState(search.q ?? '');
  const settled = useDeferredValue(text);
  const q = search.q ?? '';
  // The URL can also change from outside: through "back" or "Clear all".
  useEffect(() => setText(q), [q]);
  useEffect(() => {
    if (settled.trim() !== q)
      void navigate({
        search: (before) => ({ ...before, q: settled.trim() === '' ? undefined : settled.trim() }),
        replace: true,
        resetScroll: false,
      });
    // Only typing leads here; a changed URL sets the text above.
  }, [settled]);
  return (
    <div className="row">
      <label className="grow">
        <span className="hidden">Search datasets</span>
        <input
          type="search"
          placeholder="Search names, organs, stains, classes, citations …"
          value={text}
          onChange={(event) => setText(event.target.value)}
        />
      </label>
      <div className="row" role="group" aria-label="View">
        <Link
          to="/datasets"
          search={{ ...search, view: 'table' }}
          className="button"
          aria-current={view === 'table' ? 'true' : undefined}
        >
          Table
        </Link>
        <Link
          to="/datasets"
          search={{ ...search, view: 'cards' }}
          className="button"
          aria-current={view === 'cards' ? 'true' : undefined}
        >
          Cards
        </Link>
      </div>
    </div>
  );
}

type ListName = 'organ' | 'stain' | 'kind' | 'task' | 'licence' | 'provenance';
type OneName = 'magnification' | 'micronsPerPixel';
type FacetValue = DatasetFacets['organs'][number];

function Facets({ facets, search }: { readonly facets: DatasetFacets; readonly search: Search }) {
  const navigate = datasetsRoute.useNavigate();
  return (
    <>
      <ListFacet title="Organ" name="organ" values={facets.organs} search={search} />
      <ListFacet title="Stain" name="stain" values={facets.stains} search={search} />
      <ListFacet title="Image kind" name="kind" values={facets.imageKinds} search={search} />
      <OneFacet title="Magnification" name="magnification" values={facets.magnifications} search={search} />
      <OneFacet title="µm/px" name="micronsPerPixel" values={facets.micronsPerPixelBounds} search={search} />
      <ListFacet title="Task" name="task" values={facets.tasks} search={search} />
      <ListFacet
        title="Provenance"
        name="provenance"
        values={facets.provenances.map((each) => ({ ...each, name: PROVENANCE_WORDS[each.value]?.name ?? each.name }))}
        search={search}
      />
      <ListFacet title="Licence" name="licence" values={facets.licences} search={search} />
      <fieldset className="facet">
        <legend>Images</legend>
        <label>
          <input
            type="checkbox"
            checked={search.images === 'yes'}
            onChange={(event) =>
              void navigate({
                search: { ...search, images: event.target.checked ? 'yes' : undefined },
                resetScroll: false,
              })
            }
          />
          <span>With images</span>
        </label>
      </fieldset>
    </>
  );
}

/** Number of values that a user can survey at a glance. */
const SHOWN_AT_FIRST = 7;

function useFolded(values: readonly FacetValue[], isChosen: (value: string) => boolean) {
  const [isOpen, setOpen] = useState(false);
  const shown = isOpen ? values : values.filter((each, index) => index < SHOWN_AT_FIRST || isChosen(each.value));
  const more =
    values.length > SHOWN_AT_FIRST ? (
      <button type="button" className="plain small" onClick={() => setOpen(!isOpen)} aria-expanded={isOpen}>
        {isOpen ? 'Fewer' : `${values.length - shown.length} more`}
      </button>
    ) : null;
  return { shown, more };
}

/** Any of the chosen values. */
function ListFacet({
  title,
  name,
  values,
  search,
}: {
  readonly title: string;
  readonly name: ListName;
  readonly values: readonly FacetValue[];
  readonly search: Search;
}) {
  const navigate = datasetsRoute.useNavigate();
  const chosen: readonly string[] = search[name] ?? [];
  const { shown, more } = useFolded(values, (value) => chosen.includes(value));
  const toggle = (value: string, isOn: boolean): void => {
    const next = isOn ? [...chosen, value] : chosen.filter((each) => each !== value);
    void navigate({ search: { ...search, [name]: next.length === 0 ? undefined : next }, resetScroll: false });
  };
  return (
    <fieldset className="facet">
      <legend>{title}</legend>
      {shown.map(({ value, name: label, count: found }) => (
        <label key={value}>
          <input
            type="checkbox"
            checked={chosen.includes(value)}
            onChange={(event) => toggle(value, event.target.checked)}
          />
          <span>{words(label)}</span>
          <span className="count">{count(found)}</span>
        </label>
      ))}
      {more}
    </fieldset>
  );
}

/** One value or none. */
function OneFacet({
  title,
  name,
  values,
  search,
}: {
  readonly title: string;
  readonly name: OneName;
  readonly values: readonly FacetValue[];
  readonly search: Search;
}) {
  const navigate = datasetsRoute.useNavigate();
  const { shown, more } = useFolded(values, (value) => search[name] === value);
  return (
    <fieldset className="facet">
      <legend>{title}</legend>
      {shown.map(({ value, name: label, count: found }) => (
        <label key={value}>
          <input
            type="checkbox"
            checked={search[name] === value}
            onChange={(event) =>
              void navigate({
                search: { ...search, [name]: event.target.checked ? value : undefined },
                resetScroll: false,
              })
            }
          />
          <span>{label}</span>
          <span className="count">{count(found)}</span>
        </label>
      ))}
      {more}
    </fieldset>
  );
}

const column = columnsOf<DatasetRow>();
const COLUMNS = column.columns([
  column.accessor('name', {
    id: 'NAME',
    header: 'Name',
    cell: ({ row: { original } }) => (
      <>
        <Link to="/datasets/$slug" params={{ slug: original.slug }}>
          {original.name}
        </Link>{' '}
        {original.synthetic && <Synthetic />}
        <span className="tags">
          <Provenance provenance={original.provenance} />
        </span>
      </>
    ),
  }),
  column.display({ id: 'organs', header: 'Organ', cell: ({ row }) => named(row.original.organs) }),
  column.display({ id: 'stains', header: 'Stain', cell: ({ row }) => named(row.original.stains) }),
  column.display({ id: 'kind', header: 'Kind', cell: ({ row }) => row.original.imageKind }),
  column.accessor('imageCount', { id: 'IMAGE_COUNT', header: 'Images', cell: ({ getValue }) => orUnknown(getValue()) }),
  column.display({
    id: 'resolution',
    header: 'Resolution',
    cell: ({ row }) => resolutionsText(row.original.resolutions),
  }),
  column.accessor('publishedYear', {
    id: 'PUBLISHED_YEAR',
    header: 'Year',
    cell: ({ getValue }) => getValue() ?? <Unknown />,
  }),
  column.display({
    id: 'here',
    header: 'Here',
    cell: ({ row }) =>
      row.original.latestVersion === null ? (
        ''
      ) : (
        <Tag tone="good">
          v{row.original.latestVersion.version} · {count(row.original.latestVersion.imageCount)}
        </Tag>
      ),
  }),
]);

function Rows({
  rows,
  order,
  direction,
}: {
  readonly rows: readonly DatasetRow[];
  readonly order: string;
  readonly direction: 'ASC' | 'DESC';
}) {
  const navigate = datasetsRoute.useNavigate();
  return (
    <DataTable
      caption="Datasets"
      rows={rows}
      columns={COLUMNS}
      idOf={(row) => row.id}
      numbers={['IMAGE_COUNT', 'PUBLISHED_YEAR']}
      order={{
        sorting: [{ id: order, desc: direction === 'DESC' }],
        change: ([first]) =>
          void navigate({
            search: (before) => ({
              ...before,
              order: oneOf(DATASET_ORDERS, first?.id),
              direction: first?.desc === true ? 'DESC' : 'ASC',
            }),
            resetScroll: false,
          }),
      }}
    />
  );
}

function Cards({ rows }: { readonly rows: readonly DatasetRow[] }) {
  return (
    <ul className="cards">
      {rows.map((row) => (
        <li key={row.id} style={{ display: 'grid' }}>
          <Link to="/datasets/$slug" params={{ slug: row.slug }} className="card">
            <Strip row={row} />
            <div className="body">
              <span>
                <strong>{row.name}</strong> {row.synthetic && <Synthetic />}
              </span>
              <span className="soft small">
                {[named(row.organs), named(row.stains)].filter((part) => part !== '').join(' · ')}
              </span>
              <span className="small">
                {row.imageCount === null ? 'images: not known' : counted(row.imageCount, 'image')} · {row.imageKind}
                {row.publishedYear === null ? '' : ` · ${row.publishedYear}`}
              </span>
              <span className="tags">
                <Provenance provenance={row.provenance} />
                {row.tasks.map((task) => (
                  <Tag key={task}>{task.toLowerCase()}</Tag>
                ))}
              </span>
            </div>
          </Link>
        </li>
      ))}
    </ul>
  );
}

const STRIP_LENGTH = 4;

function Strip({ row }: { readonly row: DatasetRow }) {
  const thumbnails = row.latestVersion?.thumbnails ?? [];
  if (thumbnails.length === 0) return <span className="strip none">no images here</span>;
  const stride = Math.max(1, Math.floor(thumbnails.length / STRIP_LENGTH));
  return (
    <span className="strip">
      {thumbnails
        .filter((_, index) => index % stride === 0)
        .slice(0, STRIP_LENGTH)
        .map((thumbnail) => (
          <img key={thumbnail.position} src={thumbnail.url} alt="" loading="lazy" />
        ))}
    </span>
  );
}

function named(items: readonly { readonly name: string }[]): string {
  return items.map((item) => item.name).join(', ');
}

function orUnknown(value: number | null) {
  return value === null ? <Unknown /> : count(value);
}

function Unknown() {
  return (
    <span className="soft" title="not known">
      –<span className="hidden">not known</span>
    </span>
  );
}
