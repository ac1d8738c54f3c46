/** The page of one slide: what it is, and the slide itself to look at, with its tissue and its patches. */
import { getRouteApi, Link } from '@tanstack/react-router';
import { useGraphQLQuery } from '../../api/hooks.ts';
import { bytes, count, formatPatches, words } from '../../ui/format.ts';
import { Digest, Empty, Fact, Facts, Loaded, Tag, useTitle } from '../../ui/parts.tsx';
import { ColouredSlide } from './colouring.tsx';
import { SLIDE, type SlideDetail, type SlideVersion } from './queries.ts';

const slideRoute = getRouteApi('/slides/$versionId/$position');

export function SlidePage() {
  const { versionId, position } = slideRoute.useParams();
  const place = { versionId, position: /^\d{1,9}$/.test(position) ? Number(position) : -1 };
  const answer = useGraphQLQuery(SLIDE, place);
  const version = answer.data === undefined ? undefined : versionIn(answer.data.node);
  useTitle(version?.slide?.path ?? 'Slide');
  return (
    <Loaded of={answer}>
      {() =>
        version?.slide == null ? (
          <Empty title="This slide does not exist">
            <Link to="/datasets">To the datasets</Link>
          </Empty>
        ) : (
          <>
            <Head version={version} slide={version.slide} />
            <ColouredSlide key={version.slide.tilesUrl} version={version} slide={version.slide} />
            <Known slide={version.slide} />
          </>
        )
      }
    </Loaded>
  );
}

function versionIn(node: unknown): SlideVersion | undefined {
  return isVersion(node) ? node : undefined;
}

function isVersion(node: unknown): node is SlideVersion {
  return typeof node === 'object' && node !== null && 'slide' in node;
}

function Head({ version, slide }: { readonly version: SlideVersion; readonly slide: SlideDetail }) {
  const { dataset } = version;
  return (
    <div className="head">
      <span className="crumbs">
        <Link to="/datasets">Datasets</Link> /{' '}
        <Link to="/datasets/$slug" params={{ slug: dataset.slug }} search={{ version: String(version.version) }}>
          {dataset.name} v{version.version}
        </Link>{' '}
        / slide {slide.position + 1}
      </span>
      <div className="row">
        <h1 className="wrap">{slide.path}</h1>
        {slide.status === 'IMPORTED' ? (
          <Tag tone="good">{formatPatches(slide.patchCount)}</Tag>
        ) : (
          <Tag tone="bad">left out</Tag>
        )}
      </div>
      {slide.reason !== null && <p>{slide.reason}</p>}
    </div>
  );
}

function Known({ slide }: { readonly slide: SlideDetail }) {
  const { micronsPerPixel, width, height } = slide;
  const share = (value: number | null): string | null =>
    value === null ? null : `${Number((value * 100).toPrecision(2))} %`;
  return (
    <section className="sheet" aria-labelledby="known">
      <h2 id="known">Facts</h2>
      <Facts>
        <Fact name="Size">
          {width === null || height === null ? null : `${count(width)} x ${count(height)} px`}
          {width === null || height === null || micronsPerPixel === null
            ? ''
            : `, ${((width * micronsPerPixel.x) / 1000).toFixed(1)} x ${((height * micronsPerPixel.y) / 1000).toFixed(1)} mm`}
        </Fact>
        <Fact name="um/px">
          {micronsPerPixel === null
            ? null
            : `${Number(micronsPerPixel.x.toPrecision(4))}, ${
                micronsPerPixel.property === null ? 'given with the import' : `from ${micronsPerPixel.property}`
              }`}
        </Fact>
        <Fact name="Objective">{slide.objective === null ? null : `${slide.objective}x`}</Fact>
        <Fact name="Format">{slide.vendor}</Fact>
        <Fact name="Tissue">{share(slide.tissueFraction)}</Fact>
        <Fact name="Pen">{share(slide.penFraction)}</Fact>
        <Fact name="Label">{slide.label}</Fact>
        <Fact name="Patient or slide">{slide.group}</Fact>
        <Fact name="Split">{slide.split === null ? null : words(slide.split)}</Fact>
        <Fact name="File">
          {slide.fileDigest === null ? null : (
            <>
              {slide.fileByteSize === null ? '' : `${bytes(slide.fileByteSize)}, `}
              <Digest sha256={slide.fileDigest} />
            </>
          )}
        </Fact>
      </Facts>
    </section>
  );
}
