/** The report of an import or of its preview: assignments, skipped files, and issues to accept. */
import { Link } from '@tanstack/react-router';
import { count, counted, formatGroups, inside, words } from '../../ui/format.ts';
import { IssueList } from '../../ui/issues.tsx';
import { Bars, Snippet } from '../../ui/parts.tsx';
import type { RunDetail } from './queries.ts';

type Report = NonNullable<RunDetail['importReport']>;

/** How to import again so that the patients or slides are known. */
function GroupHints({ report: { ungroupedImageCount, groupSuggestions } }: { readonly report: Report }) {
  if (ungroupedImageCount === 0) return null;
  return (
    <>
      <h3>To give groups, import again with</h3>
      <ul className="stack small" style={{ gap: '0.4rem' }}>
        {groupSuggestions.map(({ groupLevel, csvColumn, groupCount, examples }) => (
          <li key={`${groupLevel} ${csvColumn}`}>
            <code>{csvColumn === null ? `groupLevel: ${groupLevel}` : `csvColumns: { group: "${csvColumn}" }`}</code> if
            its {count(groupCount)} {csvColumn === null ? 'folders' : 'values'} are patients or slides, as in{' '}
            <span className="mono wrap">{examples.join('; ')}</span>
          </li>
        ))}
        <li>
          <code>layout: CSV</code> and a labels CSV with the columns path, label and group
        </li>
      </ul>
    </>
  );
}

/** Number of rows per page. */
const ASSIGNMENTS_SHOWN = 100;

export function ImportReport({ run, report }: { readonly run: RunDetail; readonly report: Report }) {
  const { imageCount, fileCount, labelCounts, splitCounts } = report;
  return (
    <section className="sheet" aria-labelledby="report">
      <h2 id="report">
        {report.isDryRun ? 'Result of the dry run' : 'Result of the import'}{' '}
        <span className="soft small">
          {report.imagesChecked
            ? `${counted(imageCount, 'image')} of ${counted(fileCount, 'file')}`
            : `${counted(fileCount, 'file')}, by their names: no image was read yet`}
          , {formatGroups(report)}
        </span>
      </h2>
      <Verdict run={run} report={report} />
      {report.notes.map((note) => (
        <p key={note} className="small">
          {note}
        </p>
      ))}
      <div className="columns">
        <div className="stack">
          <h3>Labels</h3>
          {labelCounts.length === 0 ? (
            <p className="soft">The images have no labels.</p>
          ) : (
            <Bars unit="images" items={labelCounts.map((each) => ({ label: each.label, value: each.count }))} />
          )}
          {splitCounts.length > 0 && (
            <>
              <h3>Splits</h3>
              <Bars unit="images" items={splitCounts.map((each) => ({ label: each.split, value: each.count }))} />
            </>
          )}
        </div>
        <div className="stack">
          <h3>Issues</h3>
          <IssueList issues={report.issues} />
          {report.issueListUrl !== null && (
            <p className="small">
              <a href={report.issueListUrl} download={`import-${run.id}-issues.csv`}>
                every file with its reason, as CSV
              </a>
            </p>
          )}
          <GroupHints report={report} />
          {report.passedOver.map(({ reason, count: passed, examples }) => (
            <p key={reason} className="small">
              Passed over: {passed} {words(reason)} <span className="soft mono wrap">{examples.join('; ')}</span>
            </p>
          ))}
        </div>
      </div>
      <Assignments report={report} />
    </section>
  );
}

function Verdict({ run, report }: { readonly run: RunDetail; readonly report: Report }) {
  const { isDryRun, questions } = report;
  const datasetId = inside(run.config, 'datasetId');
  if (questions.length > 0)
    return (
      <div className="notice warn" role="note">
        <span>
          {isDryRun ? 'An import would be refused' : 'The import was refused'} for{' '}
          <strong>{questions.map((question) => words(question)).join(', ')}</strong>. Correct the folder, or accept what
          is intended:
        </span>
        <Snippet label="Value for the field accept" text={questions.join(', ')} />
      </div>
    );
  if (!isDryRun) return null;
  return (
    <div className="notice good" role="note">
      <span>Nothing was registered. An import would seal this version.</span>
      {typeof datasetId === 'string' && (
        <Link to="/new" search={{ what: 'importDatasetVersion', datasetId }} className="button">
          Import it
        </Link>
      )}
    </div>
  );
}

function Assignments({ report: { assignments, assignmentCount } }: { readonly report: Report }) {
  const shown = assignments.slice(0, ASSIGNMENTS_SHOWN);
  return (
    <div className="scroll" tabIndex={0} role="region" aria-label="Labels, groups and splits by folder">
      <table>
        <thead>
          <tr>
            <th scope="col">Folder</th>
            <th scope="col">Label</th>
            <th scope="col">Split</th>
            <th scope="col" className="number">
              Files
            </th>
          </tr>
        </thead>
        <tbody>
          {shown.map(({ folder, label, split, fileCount }) => (
            <tr key={JSON.stringify([folder, label, split])}>
              <td className="mono">{folder === '' ? '.' : folder}</td>
              <td>{label ?? '-'}</td>
              <td>{split ?? '-'}</td>
              <td className="number">{count(fileCount)}</td>
            </tr>
          ))}
        </tbody>
      </table>
      {assignmentCount > shown.length && <p className="soft small">and {count(assignmentCount - shown.length)} more</p>}
    </div>
  );
}
