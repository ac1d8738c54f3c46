/** Thumbnails of a version's images. */
import { ScrollingGrid } from '../../ui/scrolling-grid.tsx';
import type { DatasetVersionDetail } from './queries.ts';

const SIDE_PX = 112;
const CAPTION_PX = 22;

export function ThumbnailGrid({
  thumbnails,
  datasetName,
}: {
  readonly thumbnails: DatasetVersionDetail['thumbnails'];
  readonly datasetName: string;
}) {
  return (
    <ScrollingGrid
      className="thumbs"
      label={`Images of ${datasetName}`}
      items={thumbnails}
      cellMinPx={SIDE_PX}
      rowPxOf={(sidePx) => sidePx + CAPTION_PX}
    >
      {(thumbnail, place) => (
        <figure key={thumbnail.position} style={{ ...place }}>
          <img src={thumbnail.url} alt={thumbnail.label ?? `image ${thumbnail.position + 1}`} loading="lazy" />
          <figcaption>{thumbnail.label ?? '\u00a0'}</figcaption>
        </figure>
      )}
    </ScrollingGrid>
  );
}
