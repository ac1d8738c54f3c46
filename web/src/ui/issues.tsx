/** Issues of an import by kind, for a version and for the report of an import. */
import type { ReactNode } from 'react';
import { counted, words } from './format.ts';
import { Tag } from './parts.tsx';

export interface IssueFacts {
  readonly kind: string;
  readonly count: number;
  readonly kept: boolean;
  readonly meaning: string | null;
  readonly examples: readonly string[];
}

/** @param details renders the content below an issue from its examples; by default only the examples. */
export function IssueList<Issue extends IssueFacts>({
  issues,
  details = (_issue, examples) => examples,
}: {
  readonly issues: readonly Issue[];
  readonly details?: (issue: Issue, examples: ReactNode) => ReactNode;
}) {
  if (issues.length === 0)
    return (
      <p>
        <Tag tone="good">no issues</Tag>
      </p>
    );
  return (
    <ul className="stack" style={{ gap: '0.4rem' }}>
      {issues.map((issue) => (
        <li key={issue.kind}>
          <Tag tone="warn">{words(issue.kind)}</Tag> {issue.count}, {issue.kept ? 'kept' : 'left out'}
          {issue.meaning !== null && <div className="small">{issue.meaning}</div>}
          {details(
            issue,
            <div className="soft small mono wrap">
              {issue.examples.slice(0, 5).join('; ')}
              {issue.count > issue.examples.length ? ' …' : ''}
            </div>,
          )}
        </li>
      ))}
    </ul>
  );
}

/** The warnings that must be shown with every score on a version. */
export function Caveats({ issues }: { readonly issues: readonly Pick<IssueFacts, 'kind' | 'count' | 'meaning'>[] }) {
  return issues.map(({ kind, count, meaning }) => (
    <div key={kind} className="notice warn" role="note">
      <span>
        <strong>{words(kind)}</strong>, {counted(count, 'image')}: {meaning}
      </span>
    </div>
  ));
}
