/** Thumbnails of a version's images: the document contains only the visible rows. */
import { useVirtualizer } from '@tanstack/react-virtual';
import { useLayoutEffect, useRef, useState } from 'react';
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
  const frame = useRef<HTMLDivElement>(null);
  const [widthPx, setWidthPx] = useState(SIDE_PX);
  useLayoutEffect(() => {
    const element = frame.current;
    if (element === null) return undefined;
    const observer = new ResizeObserver(() => setWidthPx(element.clientWidth));
    observer.observe(element);
    return () => observer.disconnect();
  }, []);
  const perRow = Math.max(1, Math.floor(widthPx / SIDE_PX));
  const sidePx = widthPx / perRow;
  const rowPx = sidePx + CAPTION_PX;
  const rows = useVirtualizer({
    count: Math.ceil(thumbnails.length / perRow),
    getScrollElement: () => frame.current,
    estimateSize: () => rowPx,
    overscan: 3,
  });
  useLayoutEffect(() => rows.measure(), [rows, rowPx]);
  return (
    <div className="thumbs" ref={frame} tabIndex={0} role="region" aria-label={`Images of ${datasetName}`}>
      <div style={{ height: rows.getTotalSize() }}>
        {rows.getVirtualItems().flatMap((row) =>
          thumbnails.slice(row.index * perRow, (row.index + 1) * perRow).map((thumbnail, index) => (
            <figure key={thumbnail.position} style={{ top: row.start, left: index * sidePx, width: sidePx }}>
              <img src={thumbnail.url} alt={thumbnail.label ?? `image ${thumbnail.position + 1}`} loading="lazy" />
              <figcaption>{thumbnail.label ?? '\u00a0'}</figcaption>
            </figure>
          )),
        )}
      </div>
    </div>
  );
}
