/** The page of one model: its encoders, their use, training data and scores. */
import { getRouteApi, Link } from '@tanstack/react-router';
import { useState } from 'react';
import { useGraphQLQuery } from '../../api/hooks.ts';
import { bytes, count, counted, instant, short, words } from '../../ui/format.ts';
import { CheckpointLink, DatasetVersionLink } from '../../ui/links.tsx';
import { Digest, Empty, Fact, Facts, Loaded, Snippet, Synthetic, Tag, useTitle } from '../../ui/parts.tsx';
import { leakageInWords, UnbeatenBaselines } from './findings.tsx';
import { Golden } from './golden.tsx';
import { LearningCurve } from './learning-curve.tsx';
import { ProbeVerdict } from '../../ui/probe.tsx';
import { Lineage } from './lineage.tsx';
import { MetricTable } from './metrics.tsx';
import { CHECKPOINT, MODEL, type CheckpointDetail, type ModelDetail } from './queries.ts';
import { curlSnippet, pythonSnippet, typescriptSnippet } from './snippets.ts';

const modelRoute = getRouteApi('/models/$slug');

export function ModelPage() {
  const { slug } = modelRoute.useParams();
  const { version } = modelRoute.useSearch();
  const answer = useGraphQLQuery(MODEL, { slug });
  useTitle(answer.data?.model?.name ?? slug);
  return (
    <Loaded of={answer}>
      {({ model }) =>
        model === null ? (
          <Empty title="This model does not exist">
            <Link to="/models">To the models</Link>
          </Empty>
        ) : (
          <Detail model={model} version={version} />
        )
      }
    </Loaded>
  );
}

function Detail({ model, version }: { readonly model: ModelDetail; readonly version: string | undefined }) {
  const checkpoints = model.checkpoints.nodes;
  const shown = checkpoints.find((each) => String(each.version) === version) ?? checkpoints[0];
  return (
    <>
      <div className="head">
        <span className="crumbs">
          <Link to="/models">Models</Link> / {model.slug}
        </span>
        <div className="row">
          <h1>{model.name}</h1>
          {model.aliases.map((alias) => (
            <Tag key={alias.name} tone="accent">
              {alias.name} → v{alias.checkpoint.version}
            </Tag>
          ))}
          {shown?.trainedOn.some((each) => each.dataset.synthetic) === true && <Synthetic />}
        </div>
        {model.description !== null && <p>{model.description}</p>}
        <p className="soft small">
          {counted(model.checkpoints.totalCount, 'version')}, licence {model.licence ?? 'not known'}
        </p>
      </div>
      {checkpoints.length > 1 && (
        <nav className="tabs" aria-label="Versions">
          {checkpoints.map((each) => (
            <Link
              key={each.id}
              to="/models/$slug"
              params={{ slug: model.slug }}
              search={{ version: String(each.version) }}
              className={each.id === shown?.id ? 'active' : ''}
              aria-current={each.id === shown?.id ? 'page' : undefined}
              resetScroll={false}
            >
              v{each.version}
            </Link>
          ))}
        </nav>
      )}
      {shown === undefined ? (
        <Empty title="The model has no versions yet" />
      ) : (
        <Version key={shown.id} id={shown.id} model={model} />
      )}
    </>
  );
}

function Version({ id, model }: { readonly id: string; readonly model: ModelDetail }) {
  return (
    <Loaded of={useGraphQLQuery(CHECKPOINT, { id })}>
      {({ checkpoint }) =>
        checkpoint === null ? (
          <Empty title="This version has been deleted" />
        ) : (
          <Checkpoint checkpoint={checkpoint} model={model} />
        )
      }
    </Loaded>
  );
}

function Checkpoint({ checkpoint, model }: { readonly checkpoint: CheckpointDetail; readonly model: ModelDetail }) {
  return (
    <>
      <section className="sheet" aria-labelledby="lineage">
        <h2 id="lineage">Lineage and scores</h2>
        <Lineage checkpoint={checkpoint} name={model.name} />
      </section>
      <div className="columns">
        <Weights checkpoint={checkpoint} />
        <Use checkpoint={checkpoint} />
      </div>
      <Evaluations checkpoint={checkpoint} />
      <Golden checkpointId={checkpoint.id} />
      {checkpoint.trainingFacts.length > 0 && <TrainingFacts checkpoint={checkpoint} />}
    </>
  );
}

/** What the source of weights is called: an address, or a file that the publisher gives by name. */
function sourceName(sha256: string | null, url: string | null): string {
  if (sha256 !== null) return 'Imported from';
  return url === null ? 'Published as' : 'Published at';
}

function Weights({ checkpoint }: { readonly checkpoint: CheckpointDetail }) {
  const { inputContract: contract, importedFrom } = checkpoint;
  const isKnownResolution = contract.micronsPerPixelMin !== null || contract.micronsPerPixelMax !== null;
  return (
    <section className="sheet" aria-labelledby="weights">
      <h2 id="weights">Encoder and weights</h2>
      <Facts>
        <Fact name="Encoder">
          {checkpoint.architecture.name}, embedding of {checkpoint.embeddingDim}
        </Fact>
        <Fact name="Trained on">
          {checkpoint.trainedOn.length === 0 && (checkpoint.isTrainingKnown ? 'nothing' : 'not known')}
          {checkpoint.trainedOn.map((each) => (
            <div key={each.id}>
              <DatasetVersionLink version={each} />, {counted(each.imageCount, 'image')}{' '}
              {each.dataset.synthetic && <Synthetic />}
            </div>
          ))}
        </Fact>
        {checkpoint.sameWeights.length > 0 && (
          <Fact name="The same weights as">
            {checkpoint.sameWeights.map((same) => (
              <div key={same.id}>
                <CheckpointLink checkpoint={same} />
              </div>
            ))}
          </Fact>
        )}
        {checkpoint.step !== null && (
          <Fact name="Steps">
            {count(checkpoint.step)}
            {checkpoint.epoch === null ? '' : `, ${short(checkpoint.epoch)} epochs`}
          </Fact>
        )}
        {checkpoint.probe !== null && (
          <Fact name="Probe">
            <ProbeVerdict probe={checkpoint.probe} />
          </Fact>
        )}
        <Fact name="Registered">{instant(checkpoint.createdAt)}</Fact>
        <Fact name="Card">
          <a href={checkpoint.cardUrl} download>
            model card as Markdown
          </a>
        </Fact>
        {importedFrom !== null && (
          <Fact name={sourceName(checkpoint.sha256, importedFrom.url)}>
            {importedFrom.url ?? importedFrom.fileName ?? 'an unknown file'}{' '}
            {importedFrom.licence === null ? '' : `(licence ${importedFrom.licence})`}
          </Fact>
        )}
        {importedFrom !== null && importedFrom.accessUrl !== null && (
          <Fact name="Access">
            on request, at <a href={importedFrom.accessUrl}>{importedFrom.accessUrl}</a>
          </Fact>
        )}
        {importedFrom?.contents != null && importedFrom.contents.inertGlobals.length > 0 && (
          <Fact name="Never run">{importedFrom.contents.inertGlobals.join(', ')}</Fact>
        )}
      </Facts>
      {checkpoint.sha256 === null ? (
        <div className="notice">
          The weights are not here, only their source is known.{' '}
          {checkpoint.publishedSlug !== null && (
            <Link to="/new" search={{ what: 'importCheckpoint', publishedCheckpoint: checkpoint.publishedSlug }}>
              Import them
            </Link>
          )}
        </div>
      ) : (
        <Facts>
          <Fact name="sha256">
            <Digest sha256={checkpoint.sha256} />
          </Fact>
          <Fact name="Size">{checkpoint.byteSize === null ? null : bytes(checkpoint.byteSize)}</Fact>
          <Fact name="Precision">{checkpoint.precision.sentence}</Fact>
          <Fact name="Download">
            {checkpoint.formats.map((format) => (
              <a
                key={format}
                className="button"
                download
                href={`/checkpoints/${checkpoint.id}/download?format=${format.toLowerCase()}`}
              >
                {format.toLowerCase()}
              </a>
            ))}
          </Fact>
          {checkpoint.exports.map(({ format, status, maxRelativeDifference, reason }) => (
            <Fact key={format} name={`${format.toLowerCase()}, checked`}>
              {status === 'REFUSED'
                ? `Refused. ${reason ?? ''}`
                : `its embeddings differ from the engine's by ${maxRelativeDifference?.toExponential(1) ?? '?'} at most`}
            </Fact>
          ))}
        </Facts>
      )}
      <h3>Input contract</h3>
      <Facts>
        <Fact name="Size">
          {contract.imageSizePx} px square, {words(contract.resizeRule)}, {words(contract.interpolation)}
        </Fact>
        <Fact name="Channels">
          {contract.channelOrder}, values {contract.valueRange.join(' to ')}
        </Fact>
        <Fact name="Mean, std">
          {contract.channelMean.map(short).join(', ')} · {contract.channelStd.map(short).join(', ')}
        </Fact>
        <Fact name="µm/px seen">
          {isKnownResolution ? `${contract.micronsPerPixelMin ?? '?'} to ${contract.micronsPerPixelMax ?? '?'}` : null}
        </Fact>
        <Fact name="Embedding">
          output of {contract.embeddingLayer}
          {contract.pooling === 'AVGPOOL' ? '' : `, pooling ${words(contract.pooling)}`}
        </Fact>
      </Facts>
      {checkpoint.sha256 !== null && (
        <Link to="/new" search={{ what: 'launchEvaluation', checkpointId: checkpoint.id }} className="button">
          Evaluate it
        </Link>
      )}
    </section>
  );
}

const LANGUAGES = ['curl', 'Python', 'TypeScript'] as const;

function Use({ checkpoint }: { readonly checkpoint: CheckpointDetail }) {
  const [language, setLanguage] = useState<(typeof LANGUAGES)[number]>('curl');
  const snippets = {
    curl: curlSnippet(checkpoint, location.origin),
    Python: pythonSnippet(checkpoint),
    TypeScript: typescriptSnippet(checkpoint, location.origin),
  };
  return (
    <section className="sheet" aria-labelledby="use">
      <h2 id="use">Usage</h2>
      {checkpoint.sha256 === null ? (
        <p className="soft">Available once the weights have been imported.</p>
      ) : (
        <>
          <div className="tabs" role="group" aria-label="Language">
            {LANGUAGES.map((each) => (
              <button
                key={each}
                type="button"
                className={each === language ? 'active' : ''}
                aria-pressed={each === language}
                onClick={() => setLanguage(each)}
              >
                {each}
              </button>
            ))}
          </div>
          <Snippet label={`${language} code`} text={snippets[language]} />
        </>
      )}
    </section>
  );
}

function Evaluations({ checkpoint }: { readonly checkpoint: CheckpointDetail }) {
  return (
    <section className="sheet" aria-labelledby="evaluations">
      <h2 id="evaluations">Evaluations</h2>
      {checkpoint.evaluations.nodes.length === 0 && <p className="soft">Not evaluated yet.</p>}
      {checkpoint.evaluations.nodes.map((evaluation) => (
        <div key={evaluation.id} className="stack">
          <h3>
            <Link to="/evaluations/$id" params={{ id: evaluation.id }}>
              {words(evaluation.protocol)} on {evaluation.datasetVersion.dataset.name} v
              {evaluation.datasetVersion.version}
            </Link>{' '}
            {evaluation.datasetVersion.dataset.synthetic && <Synthetic />}
          </h3>
          <UnbeatenBaselines kinds={evaluation.unbeatenBaselines} />
          <MetricTable metrics={evaluation.metrics} baselines={evaluation.baselines} groups={evaluation} />
          <p className="soft">{leakageInWords(evaluation.leakage)}</p>
          <LearningCurve learningCurve={evaluation.learningCurve} groups={evaluation} />
        </div>
      ))}
    </section>
  );
}

function TrainingFacts({ checkpoint }: { readonly checkpoint: CheckpointDetail }) {
  return (
    <section className="sheet" aria-labelledby="training">
      <h2 id="training">External training</h2>
      <Facts>
        {checkpoint.trainingFacts.map((fact) => (
          <Fact
            key={fact.name}
            name={
              <>
                {fact.name}{' '}
                {fact.evidence !== null && (
                  <Tag tone={fact.evidence === 'READ' ? 'good' : 'warn'} title={fact.sources.join('\n')}>
                    {words(fact.evidence)}
                  </Tag>
                )}
              </>
            }
          >
            {fact.value}
          </Fact>
        ))}
      </Facts>
    </section>
  );
}
