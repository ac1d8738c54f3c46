/** The audit log, for an ADMIN: changes, failed and refused attempts, and the verification of the log. */
import { getRouteApi } from '@tanstack/react-router';
import { graphql, type ResultOf } from '../../api/graphql.ts';
import { useGraphQLQuery, usePaginatedQuery } from '../../api/hooks.ts';
import { AUDIT_OUTCOMES } from '../../app/choices.ts';
import { oneOf } from '../../app/search.ts';
import { FilterSelect } from '../../ui/filter-select.tsx';
import { count, instant, words } from '../../ui/format.ts';
import { Empty, Failure, Loaded, Snippet, Tag, useTitle } from '../../ui/parts.tsx';
import { columnsOf, DataTable } from '../../ui/table.tsx';

const auditRoute = getRouteApi('/audit');

const PAGE_SIZE = 50;

const AUDIT_LOG = graphql(`
  query AuditLog($filter: AuditFilter, $first: Int, $after: String) {
    auditLog(filter: $filter, first: $first, after: $after) {
      pageInfo {
        hasNextPage
        endCursor
      }
      nodes {
        sequence
        at
        action
        subject
        outcome
        code
        person
        keyName
        address
        requestId
      }
    }
  }
`);
const VERIFY_AUDIT = graphql(`
  query VerifyAudit {
    verifyAudit {
      entryCount
      head {
        sequence
        hash
      }
      fault {
        sequence
        message
      }
    }
  }
`);

type AuditEntry = ResultOf<typeof AUDIT_LOG>['auditLog']['nodes'][number];

export function AuditPage() {
  useTitle('Audit log');
  const { outcome, person } = auditRoute.useSearch();
  const navigate = auditRoute.useNavigate();
  const pages = usePaginatedQuery(
    AUDIT_LOG,
    {
      filter: { ...(outcome === undefined ? {} : { outcome }), ...(person === undefined ? {} : { person }) },
      first: PAGE_SIZE,
    },
    (data) => data.auditLog.pageInfo,
  );
  const rows = pages.data?.pages.flatMap((page) => page.auditLog.nodes);
  return (
    <>
      <div className="head">
        <h1>Audit log</h1>
        <p className="soft">
          Actions that were done, tried or refused. Each entry contains the hash of the entry before it.
        </p>
      </div>
      <Verification />
      <section className="sheet" aria-labelledby="entries">
        <h2 id="entries">Entries, newest first</h2>
        <div className="row">
          <FilterSelect
            label="Outcome"
            value={outcome}
            choices={AUDIT_OUTCOMES}
            onChoose={(value) =>
              void navigate({ search: { person, outcome: oneOf(AUDIT_OUTCOMES, value) }, resetScroll: false })
            }
          />
          <label className="row">
            <span className="soft">Person</span>
            <input
              value={person ?? ''}
              onChange={(event) =>
                void navigate({
                  search: { outcome, person: event.target.value === '' ? undefined : event.target.value },
                  replace: true,
                  resetScroll: false,
                })
              }
              style={{ width: '10rem' }}
            />
          </label>
        </div>
        {pages.isError && <Failure error={pages.error} />}
        {rows?.length === 0 && <Empty title="No entry matches" />}
        {rows !== undefined && rows.length > 0 && (
          <DataTable caption="Audit log" rows={rows} columns={COLUMNS} idOf={(entry) => String(entry.sequence)} />
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

/** The verification runs only on request, because it reads the whole log. */
function Verification() {
  const answer = useGraphQLQuery(VERIFY_AUDIT, {}, { enabled: false });
  return (
    <section className="sheet" aria-labelledby="whole">
      <h2 id="whole">Verification</h2>
      <p className="soft">
        The log alone cannot show that its end was truncated: store the head in another place, and pass it to{' '}
        <code>paraffin audit verify --head</code> the next time.
      </p>
      <div className="row">
        <button type="button" onClick={() => void answer.refetch()} disabled={answer.isFetching}>
          {answer.isFetching ? 'Computing …' : 'Verify all hashes'}
        </button>
      </div>
      {(answer.data !== undefined || answer.isError) && (
        <Loaded of={answer}>
          {({ verifyAudit: { entryCount, head, fault } }) => (
            <>
              <p role="status">
                {fault === null ? (
                  <Tag tone="good">valid</Tag>
                ) : (
                  <Tag tone="bad">invalid at entry {fault.sequence}</Tag>
                )}{' '}
                {count(entryCount)} {entryCount === 1 ? 'entry holds' : 'entries hold'}. {fault?.message}
              </p>
              <Snippet label="Head of the log" text={`${head.sequence}:${head.hash}`} />
            </>
          )}
        </Loaded>
      )}
    </section>
  );
}

const TONES = { DONE: 'good', REJECTED: 'warn', DENIED: 'bad', FAILED: 'bad' } as const;

const column = columnsOf<AuditEntry>();
const COLUMNS = column.columns([
  column.display({ id: 'sequence', header: 'No.', cell: ({ row }) => row.original.sequence }),
  column.display({
    id: 'at',
    header: 'When',
    cell: ({ row }) => <span className="small">{instant(row.original.at)}</span>,
  }),
  column.display({
    id: 'who',
    header: 'Who',
    cell: ({ row: { original } }) => (
      <>
        {original.person ?? 'an unknown person'}
        <div className="soft small">
          {[original.keyName, original.address].filter((part) => part !== null).join(' · ')}
        </div>
      </>
    ),
  }),
  column.display({
    id: 'action',
    header: 'What',
    cell: ({ row: { original } }) => (
      <>
        <code>{original.action}</code>
        <div className="soft small wrap">{original.subject}</div>
      </>
    ),
  }),
  column.display({
    id: 'outcome',
    header: 'Outcome',
    cell: ({ row: { original } }) => (
      <>
        <Tag tone={TONES[original.outcome]}>{words(original.outcome)}</Tag>{' '}
        <span className="soft small">{original.code}</span>
      </>
    ),
  }),
]);
