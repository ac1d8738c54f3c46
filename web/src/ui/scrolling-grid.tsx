/** A grid that scrolls: the document contains only the visible rows, so that a million items cost as much as a few. */
import { useVirtualizer } from '@tanstack/react-virtual';
import { useEffect, useLayoutEffect, useRef, useState, type ReactNode } from 'react';

/** Rows beside the visible ones that are in the document. */
const OVERSCAN_ROWS = 2;
/** Rows beyond the visible ones at which `onNearEnd` is called, so that scrolling does not wait for the next page. */
const ROWS_AHEAD = 4;

/** Where an item is in the grid, in pixels. */
export interface CellPlace {
  readonly top: number;
  readonly left: number;
  readonly width: number;
}

export function ScrollingGrid<Item>({
  className,
  label,
  items,
  cellMinPx,
  rowPxOf,
  onNearEnd,
  before,
  children,
}: {
  readonly className: string;
  /** Names the grid for screen readers. */
  readonly label: string;
  readonly items: readonly Item[];
  /** As many columns are shown as fit with this width. */
  readonly cellMinPx: number;
  /** The height of a row whose cells have this width. */
  readonly rowPxOf: (cellPx: number) => number;
  /** Called when the last items are nearly in view. */
  readonly onNearEnd?: () => void;
  readonly before?: ReactNode;
  readonly children: (item: Item, place: CellPlace) => ReactNode;
}) {
  const frame = useRef<HTMLDivElement>(null);
  const [widthPx, setWidthPx] = useState(cellMinPx);
  useLayoutEffect(() => {
    const element = frame.current;
    if (element === null) return undefined;
    const observer = new ResizeObserver(() => setWidthPx(element.clientWidth));
    observer.observe(element);
    return () => observer.disconnect();
  }, []);
  const perRow = Math.max(1, Math.floor(widthPx / cellMinPx));
  const cellPx = widthPx / perRow;
  const rowPx = rowPxOf(cellPx);
  const rowCount = Math.ceil(items.length / perRow);
  const rows = useVirtualizer({
    count: rowCount,
    getScrollElement: () => frame.current,
    estimateSize: () => rowPx,
    overscan: OVERSCAN_ROWS,
  });
  useLayoutEffect(() => rows.measure(), [rows, rowPx]);
  const visible = rows.getVirtualItems();
  const isNearEnd = (visible.at(-1)?.index ?? 0) + ROWS_AHEAD >= rowCount;
  useEffect(() => {
    if (isNearEnd) onNearEnd?.();
  }, [isNearEnd, onNearEnd]);
  return (
    <div className={className} ref={frame} tabIndex={0} role="region" aria-label={label}>
      {before}
      <div style={{ height: rows.getTotalSize() }}>
        {visible.flatMap(({ index, start }) =>
          items
            .slice(index * perRow, (index + 1) * perRow)
            .map((item, column) => children(item, { top: start, left: column * cellPx, width: cellPx })),
        )}
      </div>
    </div>
  );
}
