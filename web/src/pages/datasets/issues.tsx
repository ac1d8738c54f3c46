/** Issues of the import: by kind, and on request every file with its reason. */
import { useState } from 'react';
import { usePaginatedQuery } from '../../api/hooks.ts';
import { IssueList } from '../../ui/issues.tsx';
import { Failure } from '../../ui/parts.tsx';
import { ISSUE_ENTRIES, type DatasetVersionDetail, type IssueEntries, type ListedIssues } from './queries.ts';

export function Issues({ version, fileName }: { readonly version: DatasetVersionDetail; readonly fileName: string }) {
  const [openKind, setOpenKind] = useState<string | null>(null);
  const isListed = version.issueListUrl !== null;
  return (
    <>
      {version.issueListUrl !== null && (
        <p className="small">
          <a href={version.issueListUrl} download={fileName}>
            every file with its reason, as CSV
          </a>
        </p>
      )}
      <IssueList
        issues={version.issues}
        details={({ kind }, examples) => (
          <>
            {openKind === kind ? <Entries versionId={version.id} kind={kind} /> : examples}
            {isListed && (
              <button
                type="button"
                className="quiet small"
                aria-expanded={openKind === kind}
                onClick={() => setOpenKind(openKind === kind ? null : kind)}
              >
                {openKind === kind ? 'Hide' : 'Show each file with the reason'}
              </button>
            )}
          </>
        )}
      />
    </>
  );
}

function Entries({ versionId, kind }: { readonly versionId: string; readonly kind: string }) {
  const pages = usePaginatedQuery(ISSUE_ENTRIES, { id: versionId, kind }, (data) => entriesOf(data.node).pageInfo);
  const entries = (pages.data?.pages ?? []).flatMap((page) => entriesOf(page.node).nodes);
  return (
    <>
      {pages.error !== null && <Failure error={pages.error} />}
      <ul className="small wrap">
        {entries.map(({ path, reason, relatedPath }, index) => (
          <li key={`${index} ${path}`}>
            <span className="mono">{path}</span>: {reason}
            {relatedPath !== null && (
              <>
                {' '}
                See <span className="mono">{relatedPath}</span>.
              </>
            )}
          </li>
        ))}
      </ul>
      {pages.hasNextPage && (
        <button type="button" onClick={() => void pages.fetchNextPage()} disabled={pages.isFetchingNextPage}>
          Show more
        </button>
      )}
    </>
  );
}

const NONE: Pick<ListedIssues, 'nodes' | 'pageInfo'> = { nodes: [], pageInfo: { hasNextPage: false, endCursor: null } };

function entriesOf(node: IssueEntries['node']) {
  return node !== null && 'issueEntries' in node ? node.issueEntries : NONE;
}
