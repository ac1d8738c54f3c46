/** One evaluation: metrics beside baselines, the confusion matrix, each class. */
import { getRouteApi, Link } from '@tanstack/react-router';
import { useGraphQLQuery } from '../../api/hooks.ts';
import { count, counted, formatGroups, instant, score, words } from '../../ui/format.ts';
import { CheckpointLink, DatasetVersionLink } from '../../ui/links.tsx';
import { Caveats } from '../../ui/issues.tsx';
import { Empty, Fact, Facts, Loaded, Snippet, Synthetic, useTitle } from '../../ui/parts.tsx';
import { Leakage, UnbeatenBaselines } from '../models/findings.tsx';
import { Golden } from '../models/golden.tsx';
import { LearningCurve } from '../models/learning-curve.tsx';
import { MetricTable } from '../models/metrics.tsx';
import { EVALUATION, type EvaluationDetail } from './queries.ts';

const evaluationRoute = getRouteApi('/evaluations/$id');

export function EvaluationPage() {
  const { id } = evaluationRoute.useParams();
  const answer = useGraphQLQuery(EVALUATION, { id });
  useTitle('Evaluation');
  return (
    <Loaded of={answer}>
      {({ evaluation }) =>
        evaluation === null ? <Empty title="This evaluation does not exist" /> : <Detail evaluation={evaluation} />
      }
    </Loaded>
  );
}

function Detail({ evaluation }: { readonly evaluation: EvaluationDetail }) {
  const { checkpoint, datasetVersion: version } = evaluation;
  return (
    <>
      <div className="head">
        <span className="crumbs">
          <Link to="/leaderboard" search={{ version: version.id, protocol: evaluation.protocol }}>
            Leaderboard
          </Link>{' '}
          / evaluation
        </span>
        <div className="row">
          <h1>
            {checkpoint.model.name} v{checkpoint.version} on {version.dataset.name}
          </h1>
          {version.dataset.synthetic && <Synthetic />}
        </div>
        <p className="soft">
          {words(evaluation.protocol)}, {counted(version.imageCount, 'image')}, {formatGroups(version)},{' '}
          {instant(evaluation.createdAt)}
        </p>
      </div>
      <Caveats issues={evaluation.caveats} />
      <section className="sheet" aria-labelledby="metrics">
        <h2 id="metrics">Metrics and baselines</h2>
        <UnbeatenBaselines kinds={evaluation.unbeatenBaselines} />
        <MetricTable metrics={evaluation.metrics} baselines={evaluation.baselines} groups={evaluation} />
      </section>
      {evaluation.learningCurve.length > 0 && (
        <section className="sheet" aria-labelledby="curve">
          <h2 id="curve">With fewer labels</h2>
          <LearningCurve
            learningCurve={evaluation.learningCurve}
            baselines={evaluation.baselines}
            groups={evaluation}
          />
        </section>
      )}
      <Leakage leakage={evaluation.leakage} />
      <div className="columns">
        {evaluation.confusionMatrix !== null && <Confusion matrix={evaluation.confusionMatrix} />}
        {evaluation.perClass.length > 0 && <Classes evaluation={evaluation} />}
      </div>
      <section className="sheet" aria-labelledby="how">
        <h2 id="how">Method</h2>
        <Facts>
          <Fact name="Encoder">
            <CheckpointLink checkpoint={checkpoint} />
          </Fact>
          <Fact name="Images">
            <DatasetVersionLink version={version} />
          </Fact>
          <Fact name="Run">
            <Link to="/runs/$id" params={{ id: evaluation.run.id }}>
              its run
            </Link>
          </Fact>
          <Fact name="Seed">{evaluation.seed}</Fact>
        </Facts>
        <Snippet label="Split" text={JSON.stringify(evaluation.split, null, 2)} />
      </section>
      <Golden checkpointId={checkpoint.id} />
    </>
  );
}

function Confusion({
  matrix: { labelNames, counts },
}: {
  readonly matrix: NonNullable<EvaluationDetail['confusionMatrix']>;
}) {
  return (
    <section className="sheet" aria-labelledby="confusion">
      <h2 id="confusion">
        Confusion matrix <span className="soft small">rows true, columns predicted</span>
      </h2>
      <div className="scroll" tabIndex={0} role="region" aria-label="Confusion matrix">
        <table className="confusion">
          <thead>
            <tr>
              <th scope="col">true \ predicted</th>
              {labelNames.map((label) => (
                <th key={label} scope="col" className="number">
                  {label}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {counts.map((row, index) => {
              const all = row.reduce((sum, each) => sum + each, 0);
              return (
                <tr key={labelNames[index]}>
                  <th scope="row">{labelNames[index]}</th>
                  {row.map((each, column) => (
                    <td
                      key={labelNames[column]}
                      className="number"
                      style={{
                        background: `color-mix(in srgb, var(${index === column ? '--good-ground' : '--bad-ground'}) ${all === 0 ? 0 : Math.round((100 * each) / all)}%, transparent)`,
                      }}
                    >
                      {count(each)}
                    </td>
                  ))}
                </tr>
              );
            })}
          </tbody>
        </table>
      </div>
    </section>
  );
}

function Classes({ evaluation }: { readonly evaluation: EvaluationDetail }) {
  return (
    <section className="sheet" aria-labelledby="classes">
      <h2 id="classes">Each class</h2>
      <div className="scroll" tabIndex={0} role="region" aria-label="Each class">
        <table>
          <thead>
            <tr>
              <th scope="col">Class</th>
              <th scope="col" className="number">
                Precision
              </th>
              <th scope="col" className="number">
                Recall
              </th>
              <th scope="col" className="number">
                F1
              </th>
              <th scope="col" className="number">
                Images
              </th>
            </tr>
          </thead>
          <tbody>
            {evaluation.perClass.map((each) => (
              <tr key={each.label}>
                <th scope="row">{each.label}</th>
                <td className="number">{score(each.precision)}</td>
                <td className="number">{score(each.recall)}</td>
                <td className="number">{score(each.f1Score)}</td>
                <td className="number">{count(each.support)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}
