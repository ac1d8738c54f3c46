/** What import found: by kind, and on request every single file with its reason. */
import { useState } from 'react';
import { usePages } from '../../api/hooks.ts';
import { counted, words } from '../../ui/format.ts';
import { Failure, Tag } from '../../ui/parts.tsx';
import { ISSUE_ENTRIES, type DatasetVersionDetail, type IssueEntries, type IssueList } from './queries.ts';

export function Issues({ version, fileName }: { readonly version: DatasetVersionDetail; readonly fileName: string }) {
  const [openKind, setOpenKind] = useState<string | null>(null);
  if (version.issues.length === 0) {
    return (
      <p>
        <Tag tone="good">nothing wrong</Tag>
      </p>
    );
  }
  return (
    <>
      {version.issueListUrl !== null && (
        <p className="small">
          <a href={version.issueListUrl} download={fileName}>
            every file with its reason, as CSV
          </a>
        </p>
      )}
      <ul className="stack" style={{ gap: '0.4rem' }}>
        {version.issues.map(({ kind, count, kept, meaning, examples }) => (
          <li key={kind}>
            <Tag tone="warn">{words(kind)}</Tag> {counted(count, 'image')}, {kept ? 'kept' : 'left out'}
            {meaning !== null && <div className="small">{meaning}</div>}
            {openKind === kind ? (
              <Entries versionId={version.id} kind={kind} />
            ) : (
              <div className="soft small mono wrap">
                {examples.slice(0, 5).join(', ')}
                {count > 5 ? ' …' : ''}
              </div>
            )}
            {version.issueListUrl !== null && (
              <button
                type="button"
                className="quiet small"
                aria-expanded={openKind === kind}
                onClick={() => setOpenKind(openKind === kind ? null : kind)}
              >
                {openKind === kind ? 'Hide' : 'Each with its reason'}
              </button>
            )}
          </li>
        ))}
      </ul>
    </>
  );
}

function Entries({ versionId, kind }: { readonly versionId: string; readonly kind: string }) {
  const pages = usePages(ISSUE_ENTRIES, { id: versionId, kind }, (data) => entriesOf(data.node).pageInfo);
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

const NONE: Pick<IssueList, 'nodes' | 'pageInfo'> = { nodes: [], pageInfo: { hasNextPage: false, endCursor: null } };

function entriesOf(node: IssueEntries['node']) {
  return node !== null && 'issueEntries' in node ? node.issueEntries : NONE;
}
