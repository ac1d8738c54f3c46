/** The leaderboard of a labelled version under a protocol: intervals drawn, baselines as lines, overlap marked. */
import { getRouteApi, Link } from '@tanstack/react-router';
import { PROTOCOLS } from '../../app/choices.ts';
import { useAsk } from '../../api/hooks.ts';
import { score, words } from '../../ui/format.ts';
import { AxisNote, axisOf, IntervalPicture } from '../../ui/intervals.tsx';
import { Empty, Loaded, Synthetic, Tag, useTitle } from '../../ui/parts.tsx';
import { baselinesFor, intervalOf } from '../models/metrics.tsx';
import { LABELLED_VERSIONS, LEADERBOARD, type LeaderboardRow } from '../models/queries.ts';
import { boardOf } from './choice.ts';

const leaderboardRoute = getRouteApi('/leaderboard');

export function LeaderboardPage() {
  useTitle('Leaderboard');
  const search = leaderboardRoute.useSearch();
  const navigate = leaderboardRoute.useNavigate();
  const versions = useAsk(LABELLED_VERSIONS, {});
  return (
    <>
      <div className="head">
        <h1>Leaderboard</h1>
        <p className="soft">
          Encoders on one labelled version under one protocol, best first. A number without its interval and its
          baselines says little.
        </p>
      </div>
      <Loaded of={versions}>
        {({ datasets, evaluations }) => {
          const labelled = datasets.nodes.flatMap((dataset) =>
            dataset.latestVersion === null || dataset.latestVersion.labelNames.length < 2
              ? []
              : [{ ...dataset.latestVersion, dataset }],
          );
          const board = boardOf(labelled, search, evaluations.nodes[0]);
          if (board === undefined)
            return (
              <Empty title="No labelled images are here yet">
                <Link to="/new" search={{ what: 'importDatasetVersion' }}>
                  Import some
                </Link>
              </Empty>
            );
          const { version: chosen, protocol } = board;
          return (
            <>
              <div className="row">
                <label className="row">
                  <span className="soft">Dataset</span>
                  <select
                    value={chosen.id}
                    style={{ width: 'auto', maxWidth: '20rem' }}
                    onChange={(event) => void navigate({ search: { ...search, version: event.target.value } })}
                  >
                    {labelled.map((version) => (
                      <option key={version.id} value={version.id}>
                        {version.dataset.name} v{version.version}
                        {version.dataset.synthetic ? ' (SYNTHETIC)' : ''}
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
                        search: { ...search, protocol: PROTOCOLS.find((each) => each === event.target.value) },
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
                {chosen.dataset.synthetic && <Synthetic />}
              </div>
              <Board versionId={search.version ?? chosen.id} protocol={protocol} />
            </>
          );
        }}
      </Loaded>
    </>
  );
}

function Board({ versionId, protocol }: { readonly versionId: string; readonly protocol: (typeof PROTOCOLS)[number] }) {
  const answer = useAsk(LEADERBOARD, { datasetVersionId: versionId, protocol });
  return (
    <Loaded of={answer}>
      {({ leaderboard: rows }) =>
        rows.length === 0 ? (
          <Empty title="Nothing was evaluated on it by this protocol">
            <Link to="/new" search={{ what: 'launchEvaluation', datasetVersionId: versionId }}>
              Evaluate an encoder
            </Link>
          </Empty>
        ) : (
          <Rows rows={rows} />
        )
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
                  <Link
                    to="/models/$slug"
                    params={{ slug: row.checkpoint.model.slug }}
                    search={{ version: String(row.checkpoint.version) }}
                  >
                    {row.checkpoint.model.name} v{row.checkpoint.version}
                  </Link>{' '}
                  <span className="soft small">{row.checkpoint.encoder}</span>
                  <div>
                    <Overlap overlaps={row.overlapsPretraining} />
                  </div>
                </td>
                <td>
                  <IntervalPicture
                    interval={intervalOf(row.metric)}
                    axis={axis}
                    baselines={baselinesFor(row.metric.name, row.evaluation.baselines)}
                  />
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
      <AxisNote axis={axis} hasBaselines />
    </div>
  );
}

function Overlap({ overlaps }: { readonly overlaps: boolean | null }) {
  if (overlaps === true)
    return (
      <Tag tone="warn" title="Its pretraining saw a version of this dataset">
        saw these images
      </Tag>
    );
  if (overlaps === null) return <Tag title="What it was trained on is not known here">seen: not known</Tag>;
  return null;
}
