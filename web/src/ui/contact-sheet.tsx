/** The slides of a version side by side, with a line around their tissue: one look shows where detection is wrong. */
import { Link } from '@tanstack/react-router';
import { useState } from 'react';
import { SLIDE_FIELDS } from '../api/fragments.ts';
import { graphql, type ResultOf } from '../api/graphql.ts';
import { usePaginatedQuery } from '../api/hooks.ts';
import { FilterSelect } from './filter-select.tsx';
import { counted, formatPatches } from './format.ts';
import { Failure, Tag } from './parts.tsx';
import { ScrollingGrid } from './scrolling-grid.tsx';

const SLIDES = graphql(
  `
    query ContactSheet($id: ID!, $after: String, $filter: SlideFilter) {
      node(id: $id) {
        ... on DatasetVersion {
          slides(first: 100, after: $after, filter: $filter) {
            totalCount
            pageInfo {
              hasNextPage
              endCursor
            }
            nodes {
              ...SlideFields
            }
          }
        }
      }
    }
  `,
  [SLIDE_FIELDS],
);
type Answer = ResultOf<typeof SLIDES>;
type Slides = Extract<NonNullable<Answer['node']>, { slides: unknown }>['slides'];
type Slide = Slides['nodes'][number];

const STATUSES = ['IMPORTED', 'LEFT_OUT'] as const;
const WIDTH_PX = 190;
const VIEW_PX = 150;
const CAPTION_PX = 92;
const ROW_PX = VIEW_PX + CAPTION_PX;

/** Nothing for a version that was not cut from slides. */
export function ContactSheet({ versionId }: { readonly versionId: string }) {
  const [chosen, setChosen] = useState('');
  const status = STATUSES.find((each) => each === chosen) ?? null;
  const pages = usePaginatedQuery(SLIDES, { id: versionId, filter: { status } }, (data) => slidesOf(data).pageInfo);
  if (pages.error !== null) return <Failure error={pages.error} />;
  if (pages.data === undefined) return null;
  const slides = pages.data.pages.flatMap((page) => slidesOf(page).nodes);
  const [first] = pages.data.pages;
  const totalCount = first === undefined ? 0 : slidesOf(first).totalCount;
  if (totalCount === 0 && status === null) return null;
  return (
    <section className="sheet" aria-labelledby="slides">
      <h2 id="slides">
        Slides{' '}
        <span className="soft small">{counted(totalCount, 'slide')}; the line encloses what was taken for tissue</span>
      </h2>
      <FilterSelect label="Status" value={status ?? undefined} choices={STATUSES} onChoose={setChosen} />
      {slides.length === 0 ? (
        <p className="soft">No slide has this status.</p>
      ) : (
        <Sheet
          versionId={versionId}
          slides={slides}
          onNearEnd={() => {
            if (pages.hasNextPage && !pages.isFetchingNextPage) void pages.fetchNextPage();
          }}
        />
      )}
    </section>
  );
}

function Sheet({
  versionId,
  slides,
  onNearEnd,
}: {
  readonly versionId: string;
  readonly slides: readonly Slide[];
  readonly onNearEnd: () => void;
}) {
  return (
    <ScrollingGrid
      className="contacts"
      label="Slides with their tissue"
      items={slides}
      cellMinPx={WIDTH_PX}
      rowPxOf={() => ROW_PX}
      onNearEnd={onNearEnd}
      before={<TissueOutline />}
    >
      {(slide, place) => (
        <figure key={slide.position} style={{ ...place, height: ROW_PX }}>
          <Link
            to="/slides/$versionId/$position"
            params={{ versionId, position: String(slide.position) }}
            className="view"
            style={{ height: VIEW_PX }}
            aria-label={`Look at ${slide.path}`}
          >
            {slide.thumbnailUrl === null ? (
              <span className="soft small">no picture: tissue was not looked for</span>
            ) : (
              <img src={slide.thumbnailUrl} alt={`Overview of ${slide.path}`} />
            )}
            {slide.tissueMaskUrl !== null && (
              <img className="outline" src={slide.tissueMaskUrl} alt="" style={{ filter: `url(#${OUTLINE_ID})` }} />
            )}
          </Link>
          <Caption slide={slide} />
        </figure>
      )}
    </ScrollingGrid>
  );
}

function Caption({ slide }: { readonly slide: Slide }) {
  const { path, status, label, patchCount, tissueFraction, penFraction, reason } = slide;
  const percent = (share: number): string => `${Number((share * 100).toPrecision(2))} %`;
  const facts = [
    ...(label === null ? [] : [label]),
    ...(tissueFraction === null ? [] : [`${percent(tissueFraction)} tissue`]),
    ...(penFraction === null || penFraction === 0 ? [] : [`${percent(penFraction)} pen`]),
  ];
  return (
    <figcaption>
      <div className="name" title={path}>
        {path}
      </div>
      <div>
        {status === 'IMPORTED' ? (
          <Tag tone="good">{formatPatches(patchCount)}</Tag>
        ) : (
          <Tag tone="bad" title={reason ?? ''}>
            left out
          </Tag>
        )}
      </div>
      <div className="name">{facts.join(', ')}</div>
      {reason !== null && (
        <div className="reason" title={reason}>
          {reason}
        </div>
      )}
    </figcaption>
  );
}

const OUTLINE_ID = 'tissue-outline';

/** A filter that turns a mask, white on black, into a line around the white. */
function TissueOutline() {
  return (
    <svg width="0" height="0" aria-hidden="true" style={{ position: 'absolute' }}>
      <filter id={OUTLINE_ID} x="0" y="0" width="1" height="1" colorInterpolationFilters="sRGB">
        <feColorMatrix type="luminanceToAlpha" />
        <feComponentTransfer result="tissue">
          <feFuncA type="discrete" tableValues="0 1" />
        </feComponentTransfer>
        <feMorphology operator="erode" radius="1.5" result="inner" />
        <feComposite in="tissue" in2="inner" operator="out" result="edge" />
        <feFlood floodColor="#007a3d" />
        <feComposite in2="edge" operator="in" />
      </filter>
    </svg>
  );
}

const NONE: Slides = { totalCount: 0, nodes: [], pageInfo: { hasNextPage: false, endCursor: null } };

function slidesOf({ node }: Answer): Slides {
  return node !== null && 'slides' in node ? node.slides : NONE;
}
