/** `paraffin datasets issues`: every issue of an import with its reason, printed or as a CSV. */
import { wholeNumberFrom } from '../command.ts';
import { CommandFailure } from '../exit-codes.ts';
import { table } from '../terminal.ts';
import { fetchFile, remoteFileAt } from './bytes.ts';
import { clientCommand, connect, type Registry } from './connection.ts';
import { graphql, type ResultOf } from './graphql.ts';
import { paint, printNote, show } from './output.ts';
import { findVersion } from './references.ts';

const ISSUES = graphql(`
  query ImportIssues($id: ID!, $first: Int, $after: String, $kind: String) {
    node(id: $id) {
      ... on DatasetVersion {
        issueListUrl
        issues {
          kind
          count
          kept
          meaning
        }
        issueEntries(first: $first, after: $after, kind: $kind) {
          totalCount
          pageInfo {
            hasNextPage
            endCursor
          }
          nodes {
            kind
            path
            count
            kept
            reason
            relatedPath
          }
        }
      }
    }
  }
`);
type IssuesOf = Extract<NonNullable<ResultOf<typeof ISSUES>['node']>, { issues: unknown }>;
type Entry = IssuesOf['issueEntries']['nodes'][number];

const PAGE_SIZE = 200;
const DEFAULT_LIMIT = 50;

export const issuesCommand = clientCommand('issues', {
  summary: 'show the issues of an import, file by file, with the reason',
  details:
    'Prints the issues of a version (default: the latest). --out writes all of them as a CSV with the columns kind, path, count, kept, reason and relatedPath.',
  examples: [
    'datasets issues bach',
    'datasets issues bach@2 --kind TRUNCATED --limit 500',
    'datasets issues bach --out bach-issues.csv',
  ],
})
  .argument('<dataset>', 'dataset or dataset@version')
  .option('--kind <kind>', 'only issues of this kind, e.g. DUPLICATE')
  .option('--limit <n>', 'show at most this number', wholeNumberFrom(1), DEFAULT_LIMIT)
  .option('--out <file>', 'write all of them to this CSV file')
  .action(async (reference, { kind, limit, out, ...options }) => {
    const registry = await connect(options);
    const version = await findVersion(registry, reference);
    const name = `${version.datasetSlug}@${version.version}`;
    const first = await issuesPage(registry, version.id, { kind, first: Math.min(limit, PAGE_SIZE) });
    if (out !== undefined) {
      if (kind !== undefined)
        throw new CommandFailure({ message: '--out writes issues of every kind.', hint: 'Leave out --kind.' });
      if (first.issueListUrl === null)
        throw new CommandFailure({ message: `${name} has no list of issues.`, hint: noListHint(first) });
      await fetchFile(
        registry,
        options,
        first.issueListUrl,
        await remoteFileAt(registry, options, first.issueListUrl),
        out,
      );
      show(options, { data: { out, count: first.issueEntries.totalCount }, names: [out], text: `Wrote ${out}.` });
      return;
    }
    const entries = await entriesUpTo(registry, version.id, kind, limit, first);
    show(options, {
      data: entries,
      names: entries.map((entry) => entry.path),
      text: entries.length === 0 ? noListHint(first) : textOf(first, entries, kind),
    });
    const { totalCount } = first.issueEntries;
    if (totalCount > entries.length)
      printNote(options, `${entries.length} of ${totalCount}; --limit shows more, --out writes all of them.`);
  });

async function issuesPage(
  registry: Registry,
  id: string,
  { kind, first, after }: { kind: string | undefined; first: number; after?: string | null },
): Promise<IssuesOf> {
  const { node } = await registry.ask(ISSUES, { id, first, after: after ?? null, kind: kind ?? null });
  if (node !== null && 'issues' in node) return node;
  throw new CommandFailure({ message: `The dataset version ${id} does not exist.` });
}

async function entriesUpTo(
  registry: Registry,
  id: string,
  kind: string | undefined,
  limit: number,
  page: IssuesOf,
): Promise<Entry[]> {
  const entries = [...page.issueEntries.nodes];
  let { pageInfo } = page.issueEntries;
  while (pageInfo.hasNextPage && entries.length < limit) {
    const first = Math.min(PAGE_SIZE, limit - entries.length);
    const { issueEntries } = await issuesPage(registry, id, { kind, first, after: pageInfo.endCursor });
    entries.push(...issueEntries.nodes);
    ({ pageInfo } = issueEntries);
  }
  return entries;
}

function textOf({ issues }: IssuesOf, entries: readonly Entry[], kind: string | undefined): string {
  const kinds = issues
    .filter((issue) => kind === undefined || issue.kind === kind)
    .map(
      ({ kind: name, count, kept, meaning }) =>
        `${paint('bold', name)}: ${count}, ${kept ? 'kept' : 'left out'}. ${meaning ?? ''}`,
    );
  const rows = entries.map((entry) => [
    entry.kind,
    entry.relatedPath === null ? entry.path : `${entry.path} (see ${entry.relatedPath})`,
    entry.reason,
  ]);
  return [...kinds, '', table(['kind', 'file', 'reason'], rows)].join('\n');
}

function noListHint({ issues }: IssuesOf): string {
  return issues.length === 0
    ? 'The import found no issues.'
    : 'The version was sealed before every issue was listed. "datasets show" prints counts and examples.';
}
