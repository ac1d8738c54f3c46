/** The page of one dataset: facts with their evidence, images, issues of the import, and checkpoints trained on it. */
import { getRouteApi, Link } from '@tanstack/react-router';
import type { ReactNode } from 'react';
import { useGraphQLQuery } from '../../api/hooks.ts';
import { ContactSheet } from '../../ui/contact-sheet.tsx';
import { bytes, count, counted, formatGroups, instant, words } from '../../ui/format.ts';
import { CheckpointLink } from '../../ui/links.tsx';
import { Bars, Digest, Empty, Fact, Facts, Loaded, Synthetic, Tag, useTitle } from '../../ui/parts.tsx';
import { Provenance, PROVENANCE_WORDS, resolutionText } from './facts.tsx';
import { Issues } from './issues.tsx';
import { DATASET, TRAINED_ON, type DatasetDetail, type DatasetVersionDetail } from './queries.ts';
import { ThumbnailGrid } from './thumbnails.tsx';

const datasetRoute = getRouteApi('/datasets/$slug');

const DIGEST_RULE: Readonly<Record<DatasetVersionDetail['digestRule'], string>> = {
  PIXELS: 'of the pixels, labels, groups and splits of its images in order, whatever their encoding',
  MANIFEST_FILE: 'of the manifest file, the rule of older versions',
};

export function DatasetPage() {
  const { slug } = datasetRoute.useParams();
  const { version } = datasetRoute.useSearch();
  const answer = useGraphQLQuery(DATASET, { slug });
  useTitle(answer.data?.dataset?.name ?? slug);
  return (
    <Loaded of={answer}>
      {({ dataset }) =>
        dataset === null ? (
          <Empty title="This dataset does not exist">
            <Link to="/datasets">To the datasets</Link>
          </Empty>
        ) : (
          <Detail dataset={dataset} versionNumber={version} />
        )
      }
    </Loaded>
  );
}

function Detail({
  dataset,
  versionNumber,
}: {
  readonly dataset: DatasetDetail;
  readonly versionNumber: string | undefined;
}) {
  const versions = dataset.versions.nodes;
  const shown =
    versions.find((each) => String(each.version) === versionNumber) ??
    versions.find((each) => each.status === 'SEALED') ??
    versions[0];
  return (
    <>
      <div className="head">
        <span className="crumbs">
          <Link to="/datasets">Datasets</Link> / {dataset.slug}
        </span>
        <div className="row">
          <h1>{dataset.name}</h1>
          {dataset.synthetic && <Synthetic />}
          <Provenance provenance={dataset.provenance} />
        </div>
        {dataset.description !== null && <p className="wrap">{dataset.description}</p>}
        <p className="soft small wrap">
          {PROVENANCE_WORDS[dataset.provenance]?.meaning} {dataset.provenanceNote}
        </p>
      </div>
      {shown === undefined ? (
        <section className="sheet">
          <h2>Images</h2>
          <Empty title="No images have been imported">
            <span>The catalogue describes this dataset. Import its images to use it.</span>
            <Link to="/new" search={{ what: 'importDatasetVersion', datasetId: dataset.id }} className="button">
              Import images
            </Link>
          </Empty>
        </section>
      ) : (
        <>
          <Version dataset={dataset} version={shown} />
          <ContactSheet key={shown.id} versionId={shown.id} />
        </>
      )}
      <div className="columns">
        <Known dataset={dataset} />
        <div className="stack">
          <TrainedOn datasetId={dataset.id} />
          <Cited dataset={dataset} />
          {dataset.subcollections.length > 0 && <Parts dataset={dataset} />}
        </div>
      </div>
    </>
  );
}

function Version({ dataset, version }: { readonly dataset: DatasetDetail; readonly version: DatasetVersionDetail }) {
  return (
    <section className="sheet" aria-labelledby="images">
      <h2 id="images">
        Images{' '}
        <span className="soft small">
          {counted(version.imageCount, 'image')} in version {version.version}
        </span>
      </h2>
      <div className="row">
        <Link to="/new" search={{ what: 'launchPretraining', datasetVersionId: version.id }} className="button">
          Pretrain on it
        </Link>
        {version.labelCounts.length > 1 && (
          <Link to="/leaderboard" search={{ version: version.id }} className="button">
            Leaderboard
          </Link>
        )}
        <Link to="/new" search={{ what: 'importDatasetVersion', datasetId: dataset.id }} className="button">
          Import another version
        </Link>
      </div>
      {dataset.versions.nodes.length > 1 && (
        <nav className="tabs" aria-label="Versions">
          {dataset.versions.nodes.map((each) => (
            <Link
              key={each.id}
              to="/datasets/$slug"
              params={{ slug: dataset.slug }}
              search={{ version: String(each.version) }}
              className={each.id === version.id ? 'active' : ''}
              aria-current={each.id === version.id ? 'page' : undefined}
              resetScroll={false}
            >
              v{each.version} {each.status === 'DRAFT' ? '(draft)' : ''}
            </Link>
          ))}
        </nav>
      )}
      {version.status === 'DRAFT' && (
        <div className="notice warn">A draft, because its import has not ended. Runs cannot use it yet.</div>
      )}
      {version.thumbnails.length > 0 && <ThumbnailGrid thumbnails={version.thumbnails} datasetName={dataset.name} />}
      <div className="columns">
        <div className="stack">
          <h3>Classes</h3>
          {version.labelCounts.length === 0 ? (
            <p className="soft">The images have no labels.</p>
          ) : (
            <Bars unit="images" items={version.labelCounts.map((each) => ({ label: each.label, value: each.count }))} />
          )}
        </div>
        <div className="stack">
          <h3>Issues found by the import</h3>
          <Issues version={version} fileName={`${dataset.slug}-v${version.version}-issues.csv`} />
        </div>
        <Facts>
          <Fact name="Sealed">{version.sealedAt === null ? 'not yet' : instant(version.sealedAt)}</Fact>
          <Fact name="Size">
            {bytes(version.byteSize)}
            {version.patchSizePx === null ? '' : `, cut into patches of ${version.patchSizePx} px`}
          </Fact>
          <Fact name="Groups">
            {formatGroups(version)}
            {version.ungroupedImageCount === 0 && ', which folds never divide'}
          </Fact>
          <Fact name="Split">{version.hasSplit ? 'its own' : 'drawn at evaluation'}</Fact>
          <Fact name="Digest">
            {version.digest === null ? null : (
              <>
                <Digest sha256={version.digest} />
                <div className="soft small">{DIGEST_RULE[version.digestRule]}</div>
              </>
            )}
          </Fact>
          <Fact name="Manifest">
            {version.manifestSha256 === null ? null : (
              <a href={`/artifacts/${version.manifestSha256}`} download>
                {version.digestRule === 'PIXELS' ? 'every image as a table (Parquet)' : 'every image as JSON lines'}
              </a>
            )}
          </Fact>
          {version.status === 'SEALED' && (
            <Fact name="Card">
              <a href={`${dataset.cardUrl}?version=${version.version}`} download>
                Croissant metadata for loaders
              </a>
            </Fact>
          )}
        </Facts>
      </div>
    </section>
  );
}

function Known({ dataset }: { readonly dataset: DatasetDetail }) {
  const name = (text: string, ...fields: readonly string[]) => (
    <FactName text={text} sources={dataset.factSources.filter((source) => fields.includes(source.field))} />
  );
  const list = (items: readonly string[]): ReactNode => (items.length === 0 ? null : items.join(', '));
  return (
    <section className="sheet" aria-labelledby="known">
      <h2 id="known">
        Facts{' '}
        <span className="soft small">
          with its evidence: <Tag tone="good">read</Tag> in a source, or <Tag tone="warn">recalled</Tag> and not yet
          checked
        </span>
      </h2>
      <Facts>
        <Fact name={name('Organs', 'organs')}>{list(dataset.organs.map((each) => each.name))}</Fact>
        <Fact name={name('Stains', 'stains')}>{list(dataset.stains.map((each) => each.name))}</Fact>
        {dataset.ihcMarkers.length > 0 && (
          <Fact name={name('IHC markers', 'ihcMarkers')}>{list(dataset.ihcMarkers)}</Fact>
        )}
        <Fact name={name('Image kind', 'imageKind')}>{dataset.imageKind}</Fact>
        <Fact name={name('Resolution', 'resolutions.magnification', 'resolutions.micronsPerPixel', 'resolutions')}>
          {list(dataset.resolutions.map(resolutionText))}
        </Fact>
        <Fact name={name('Images', 'imageCount')}>
          {dataset.imageCount === null ? null : count(dataset.imageCount)}
        </Fact>
        <Fact name={name('Slides', 'slideCount')}>
          {dataset.slideCount === null ? null : count(dataset.slideCount)}
        </Fact>
        <Fact name={name('Image size', 'imageSizeNote')}>{dataset.imageSizeNote}</Fact>
        <Fact name={name('Tasks', 'tasks')}>{list(dataset.tasks.map((task) => task.toLowerCase()))}</Fact>
        <Fact name={name('Classes', 'classNames')}>{list(dataset.classNames)}</Fact>
        <Fact name={name('Licence', 'licence')}>{dataset.licence}</Fact>
        <Fact name={name('Published', 'publishedYear')}>{dataset.publishedYear}</Fact>
        {dataset.paperRoles.length > 0 && (
          <Fact name={name('Use in the paper', 'paperRoles')}>{list(dataset.paperRoles)}</Fact>
        )}
        {dataset.parentCollections.length > 0 && (
          <Fact name={name('Cut from', 'parentCollections')}>
            {dataset.parentCollections.map((slug) => (
              <span key={slug}>
                <Link to="/datasets/$slug" params={{ slug }}>
                  {slug}
                </Link>{' '}
              </span>
            ))}
            <span className="soft small">training on one and testing on the other leaks</span>
          </Fact>
        )}
        {dataset.notes !== null && <Fact name={name('Notes', 'notes')}>{dataset.notes}</Fact>}
        <Fact name="Changed here">{dataset.editedAt === null ? 'never' : instant(dataset.editedAt)}</Fact>
        <Fact name="Card">
          <a href={dataset.cardUrl} download>
            all of it as Croissant metadata
          </a>
        </Fact>
      </Facts>
    </section>
  );
}

function FactName({ text, sources }: { readonly text: string; readonly sources: DatasetDetail['factSources'] }) {
  return (
    <>
      {text}{' '}
      {sources.map((source) => {
        const [first] = source.sourceUrls;
        const tag = (
          <Tag tone={source.evidence === 'READ' ? 'good' : 'warn'} title={source.sourceUrls.join('\n')}>
            {source.evidence.toLowerCase()}
          </Tag>
        );
        return (
          <span key={source.field}>
            {first !== undefined && isAddress(first) ? (
              <a
                href={first}
                rel="noreferrer"
                target="_blank"
                aria-label={`${words(source.evidence)}: source of ${text}`}
              >
                {tag}
              </a>
            ) : (
              tag
            )}{' '}
          </span>
        );
      })}
    </>
  );
}

function isAddress(text: string): boolean {
  return /^https?:\/\//.test(text);
}

/** A URL, optionally followed by text, or only text. */
function Source({ text }: { readonly text: string }) {
  if (!isAddress(text)) return text;
  const [address = text] = text.split(' ', 1);
  return (
    <>
      <a href={address} rel="noreferrer" target="_blank">
        {address}
      </a>
      {text.slice(address.length)}
    </>
  );
}

function TrainedOn({ datasetId }: { readonly datasetId: string }) {
  const answer = useGraphQLQuery(TRAINED_ON, { datasetId });
  return (
    <section className="sheet" aria-labelledby="trained">
      <h2 id="trained">Models trained on it</h2>
      <Loaded of={answer}>
        {({ checkpoints }) =>
          checkpoints.totalCount === 0 ? (
            <p className="soft">None yet.</p>
          ) : (
            <ul className="stack" style={{ gap: '0.35rem' }}>
              {checkpoints.nodes.map((checkpoint) => (
                <li key={checkpoint.id} className="row">
                  <CheckpointLink checkpoint={checkpoint} />
                  <Tag>{checkpoint.architecture.name}</Tag>
                  {checkpoint.step !== null && <span className="soft small">step {count(checkpoint.step)}</span>}
                  {checkpoint.sourceRun !== null && (
                    <Link to="/runs/$id" params={{ id: checkpoint.sourceRun.id }} className="small">
                      its run
                    </Link>
                  )}
                </li>
              ))}
            </ul>
          )
        }
      </Loaded>
    </section>
  );
}

function Cited({ dataset }: { readonly dataset: DatasetDetail }) {
  const { citation, homepageUrl, sourceUrls } = dataset;
  if (citation === null && homepageUrl === null && sourceUrls.length === 0) return null;
  return (
    <section className="sheet" aria-labelledby="cited">
      <h2 id="cited">Sources</h2>
      {citation !== null && (
        <p className="wrap">
          {[citation.authors, citation.title, citation.venue]
            .flatMap((part) => part?.replace(/\.$/, '') ?? [])
            .join('. ')}
          .{' '}
          {citation.doi !== null && (
            <a href={`https://doi.org/${citation.doi}`} rel="noreferrer" target="_blank">
              doi:{citation.doi}
            </a>
          )}{' '}
          {citation.arxiv !== null && (
            <a href={`https://arxiv.org/abs/${citation.arxiv}`} rel="noreferrer" target="_blank">
              arXiv:{citation.arxiv}
            </a>
          )}
        </p>
      )}
      <ul className="small">
        {[...new Set([...(homepageUrl === null ? [] : [homepageUrl]), ...sourceUrls])].map((url) => (
          <li key={url} className="wrap">
            <Source text={url} />
          </li>
        ))}
      </ul>
    </section>
  );
}

function Parts({ dataset }: { readonly dataset: DatasetDetail }) {
  return (
    <section className="sheet" aria-labelledby="parts">
      <h2 id="parts">Parts that the source counts separately</h2>
      <Bars
        unit="slides"
        items={dataset.subcollections.map((part) => ({
          label: part.organ === null ? part.slug : `${part.slug} (${part.organ})`,
          value: part.slideCount,
        }))}
      />
    </section>
  );
}
