/** The leaderboard of a labelled version under a protocol: intervals drawn, baselines as lines, overlap marked. */
import { getRouteApi, Link } from '@tanstack/react-router';
import { PROTOCOLS } from '../../app/choices.ts';
import { useGraphQLQuery } from '../../api/hooks.ts';
import { counted, score, words } from '../../ui/format.ts';
import { CheckpointLink } from '../../ui/links.tsx';
import { Caveats } from '../../ui/issues.tsx';
import { AxisNote, axisOf, IntervalMark, IntervalPicture } from '../../ui/intervals.tsx';
import { Empty, Loaded, Synthetic, Tag, useTitle } from '../../ui/parts.tsx';
import { UnbeatenBaselines } from '../models/findings.tsx';
import { baselinesFor, intervalOf } from '../models/metrics.tsx';
import {
  DATASET_EVALUATIONS,
  LABELLED_VERSIONS,
  LEADERBOARD,
  LEADERBOARD_VERSION,
  type LeaderboardRow,
  type LeaderboardVersion,
} from './queries.ts';
import { otherBoards, protocolOf, versionOf } from './choice.ts';

type Protocol = (typeof PROTOCOLS)[number];

const leaderboardRoute = getRouteApi('/leaderboard');

export function LeaderboardPage() {
  useTitle('Leaderboard');
  const search = leaderboardRoute.useSearch();
  const choices = useGraphQLQuery(LABELLED_VERSIONS, {});
  return (
    <>
      <div className="head">
        <h1>Leaderboard</h1>
        <p className="soft">
          Encoders on one labelled version under one protocol, best first, each with its interval and baselines.
        </p>
      </div>
      <Loaded of={choices}>
        {({ datasets, evaluations }) => {
          const labelled = datasets.nodes.flatMap(({ slug, name, synthetic, latestVersion }) =>
            latestVersion === null || latestVersion.labelNames.length < 2
              ? []
              : [{ slug, name, synthetic, latestId: latestVersion.id }],
          );
          const versionId = versionOf(
            labelled.map(({ latestId }) => latestId),
            search.version,
            evaluations.nodes[0],
          );
          return versionId === undefined ? (
            <Empty title="No labelled images have been imported yet">
              <Link to="/new" search={{ what: 'importDatasetVersion' }}>
                Import some
              </Link>
            </Empty>
          ) : (
            <VersionBoard key={versionId} versionId={versionId} datasets={labelled} />
          );
        }}
      </Loaded>
    </>
  );
}

interface DatasetChoice {
  readonly slug: string;
  readonly name: string;
  readonly synthetic: boolean;
  /** Id of its latest labelled version. */
  readonly latestId: string;
}

function VersionBoard({
  versionId,
  datasets,
}: {
  readonly versionId: string;
  readonly datasets: readonly DatasetChoice[];
}) {
  const search = leaderboardRoute.useSearch();
  return (
    <Loaded of={useGraphQLQuery(LEADERBOARD_VERSION, { id: versionId })}>
      {({ node, evaluations }) =>
        node?.__typename === 'DatasetVersion' ? (
          <>
            <Choices version={node} datasets={datasets} protocol={protocolOf(search.protocol, evaluations.nodes[0])} />
            <Board version={node} protocol={protocolOf(search.protocol, evaluations.nodes[0])} />
          </>
        ) : (
          <Empty title="This dataset version does not exist">
            <Link to="/leaderboard">To the leaderboard with the latest evaluation</Link>
          </Empty>
        )
      }
    </Loaded>
  );
}

function Choices({
  version,
  datasets,
  protocol,
}: {
  readonly version: LeaderboardVersion;
  readonly datasets: readonly DatasetChoice[];
  readonly protocol: Protocol;
}) {
  const search = leaderboardRoute.useSearch();
  const navigate = leaderboardRoute.useNavigate();
  const { dataset } = version;
  const sealed = dataset.versions.nodes.filter(({ status, id }) => status === 'SEALED' || id === version.id);
  // The chosen version is always listed, even if its dataset's latest version is another one.
  const listed = datasets.some(({ slug }) => slug === dataset.slug)
    ? datasets
    : [{ ...dataset, latestId: version.id }, ...datasets];
  return (
    <div className="row">
      <label className="row">
        <span className="soft">Dataset</span>
        <select
          value={dataset.slug}
          style={{ width: 'auto', maxWidth: '20rem' }}
          onChange={(event) =>
            void navigate({
              search: { version: listed.find(({ slug }) => slug === event.target.value)?.latestId },
            })
          }
        >
          {listed.map(({ slug, name, synthetic }) => (
            <option key={slug} value={slug}>
              {name}
              {synthetic ? ' (SYNTHETIC)' : ''}
            </option>
          ))}
        </select>
      </label>
      <label className="row">
        <span className="soft">Version</span>
        <select
          value={version.id}
          style={{ width: 'auto' }}
          onChange={(event) => void navigate({ search: { version: event.target.value } })}
        >
          {sealed.map((each) => (
            <option key={each.id} value={each.id}>
              v{each.version}, {counted(each.imageCount, 'image')}
            </option>
          ))}
        </select>
      </label>
      <label className="row">
        <span className="soft">Protocol</span>
        <select
          value={protocol}
          style={{ width: 'auto' }}
          onChange={(event) =>
            void navigate({
              search: {
                ...search,
                version: version.id,
                protocol: PROTOCOLS.find((each) => each === event.target.value),
              },
            })
          }
        >
          {PROTOCOLS.map((each) => (
            <option key={each} value={each}>
              {words(each)}
            </option>
          ))}
        </select>
      </label>
      {dataset.synthetic && <Synthetic />}
    </div>
  );
}

function Board({ version, protocol }: { readonly version: LeaderboardVersion; readonly protocol: Protocol }) {
  const answer = useGraphQLQuery(LEADERBOARD, { datasetVersionId: version.id, protocol });
  return (
    <Loaded of={answer}>
      {({ leaderboard: rows }) =>
        rows.length === 0 ? (
          <Empty title={`No encoder was evaluated on v${version.version} by this protocol`}>
            <OtherBoards version={version} protocol={protocol} />
            <Link to="/new" search={{ what: 'launchEvaluation', datasetVersionId: version.id }}>
              Evaluate an encoder
            </Link>
          </Empty>
        ) : (
          <>
            <h2>
              {version.dataset.name} v{version.version}, {words(protocol)}
            </h2>
            <Caveats issues={rows[0]?.evaluation.caveats ?? []} />
            <Rows rows={rows} />
          </>
        )
      }
    </Loaded>
  );
}

/**
 * Links to the leaderboards of the dataset that have evaluations, so that users need not try every version and
 * protocol.
 */
function OtherBoards({ version, protocol }: { readonly version: LeaderboardVersion; readonly protocol: Protocol }) {
  return (
    <Loaded of={useGraphQLQuery(DATASET_EVALUATIONS, { datasetId: version.dataset.id })}>
      {({ evaluations }) =>
        otherBoards(evaluations.nodes, { versionId: version.id, protocol }).map((each) => (
          <p key={each.id}>
            <Link to="/leaderboard" search={{ version: each.datasetVersion.id, protocol: each.protocol }}>
              v{each.datasetVersion.version} by {words(each.protocol)}
            </Link>
          </p>
        ))
      }
    </Loaded>
  );
}

function Rows({ rows }: { readonly rows: readonly LeaderboardRow[] }) {
  const names = [...new Set(rows.flatMap((row) => row.evaluation.metrics.map((metric) => metric.name)))];
  const axis = axisOf(
    rows.flatMap((row) => [
      intervalOf(row.metric),
      ...baselinesFor(row.metric.name, row.evaluation.baselines).map(({ value }) => ({ value, low: null, high: null })),
    ]),
  );
  return (
    <div className="sheet">
      <div className="scroll" tabIndex={0} role="region" aria-label="Leaderboard">
        <table>
          <thead>
            <tr>
              <th scope="col" className="number">
                Rank
              </th>
              <th scope="col">Encoder</th>
              <th scope="col">{rows[0]?.metric.name} with its interval and baselines</th>
              {names.map((name) => (
                <th key={name} scope="col" className="number">
                  {name}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {rows.map((row) => (
              <tr key={row.evaluation.id}>
                <td className="number">{row.rank}</td>
                <td>
                  <CheckpointLink checkpoint={row.checkpoint} />{' '}
                  <span className="soft small">{row.checkpoint.architecture.name}</span>
                  <div>
                    <Overlap overlaps={row.overlapsPretraining} />{' '}
                    <UnbeatenBaselines kinds={row.evaluation.unbeatenBaselines} />
                  </div>
                </td>
                <td>
                  <IntervalPicture
                    interval={intervalOf(row.metric)}
                    axis={axis}
                    baselines={baselinesFor(row.metric.name, row.evaluation.baselines)}
                    groups={row.evaluation}
                  />
                  <div>
                    <IntervalMark groups={row.evaluation} />
                  </div>
                </td>
                {names.map((name) => {
                  const found = row.evaluation.metrics.find((metric) => metric.name === name);
                  return (
                    <td key={name} className="number">
                      {found === undefined ? (
                        ''
                      ) : (
                        <Link
                          to="/evaluations/$id"
                          params={{ id: row.evaluation.id }}
                          aria-label={`${name} ${score(found.value)}: open the evaluation`}
                        >
                          {score(found.value)}
                        </Link>
                      )}
                    </td>
                  );
                })}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      <AxisNote axis={axis} hasBaselines caveats={rows.map(({ evaluation }) => evaluation.intervalCaveat)} />
    </div>
  );
}

function Overlap({ overlaps }: { readonly overlaps: boolean | null }) {
  if (overlaps === true)
    return (
      <Tag tone="warn" title="The pretraining saw images of this dataset">
        overlaps pretraining
      </Tag>
    );
  if (overlaps === null) return <Tag title="The training data is not known">overlap not known</Tag>;
  return null;
}
