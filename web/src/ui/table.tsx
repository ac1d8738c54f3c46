/** Tables: columns are declared once, and clicking on a header sorts by it. */
import { useDeferredValue } from 'react';
import {
  createColumnHelper,
  createSortedRowModel,
  rowSortingFeature,
  sortFns,
  tableFeatures,
  useTable,
  type ColumnDef,
  type SortingState,
} from '@tanstack/react-table';

const features = tableFeatures({ rowSortingFeature, sortedRowModel: createSortedRowModel(), sortFns });

/** Makes columns for rows of one type; define them outside of components. */
export function columnsOf<Row extends object>() {
  return createColumnHelper<typeof features, Row>();
}

export type Columns<Row extends object> = readonly ColumnDef<typeof features, Row>[];
export type Sorting = SortingState;

export interface DataTableProps<Row extends object> {
  /** The table's caption for screen readers. */
  readonly caption: string;
  readonly rows: readonly Row[];
  readonly columns: Columns<Row>;
  readonly idOf: (row: Row) => string;
  /** Numeric columns, which are right-aligned. */
  readonly numbers?: readonly string[];
  /**
   * For sorting by the server: the current order of the rows, and a callback to request another. Without it, the table
   * sorts the rows itself.
   */
  readonly order?: { readonly sorting: Sorting; readonly change: (sorting: Sorting) => void };
}

/** As many rows as fill a browser window; they are rendered first. */
const INITIAL_ROW_COUNT = 15;

export function DataTable<Row extends object>({
  caption,
  rows,
  columns,
  idOf,
  numbers = [],
  order,
}: DataTableProps<Row>) {
  // The other rows follow once the first ones are visible.
  const drawn = useDeferredValue(rows, rows.slice(0, INITIAL_ROW_COUNT));
  const table = useTable({
    features,
    columns: [...columns],
    data: drawn,
    getRowId: idOf,
    enableSortingRemoval: false,
    ...(order === undefined
      ? {}
      : {
          manualSorting: true,
          state: { sorting: order.sorting },
          onSortingChange: (change: Sorting | ((before: Sorting) => Sorting)) =>
            order.change(typeof change === 'function' ? change(order.sorting) : change),
        }),
  });
  const classOf = (id: string): string => (numbers.includes(id) ? 'number' : '');
  return (
    <div className="scroll" tabIndex={0} role="region" aria-label={caption}>
      <table>
        <caption className="hidden">{caption}</caption>
        <thead>
          {table.getHeaderGroups().map((group) => (
            <tr key={group.id}>
              {group.headers.map((header) => {
                const sorted = header.column.getIsSorted();
                return (
                  <th
                    key={header.id}
                    scope="col"
                    className={classOf(header.column.id)}
                    {...(sorted === false ? {} : { 'aria-sort': sorted === 'asc' ? 'ascending' : 'descending' })}
                  >
                    {header.column.getCanSort() ? (
                      <button type="button" onClick={header.column.getToggleSortingHandler()}>
                        <table.FlexRender header={header} />
                        <span aria-hidden="true">{sorted === 'asc' ? ' ▲' : sorted === 'desc' ? ' ▼' : ''}</span>
                      </button>
                    ) : (
                      <table.FlexRender header={header} />
                    )}
                  </th>
                );
              })}
            </tr>
          ))}
        </thead>
        <tbody>
          {table.getRowModel().rows.map((row) => (
            <tr key={row.id}>
              {row.getAllCells().map((cell) => (
                <td key={cell.id} className={classOf(cell.column.id)}>
                  <table.FlexRender cell={cell} />
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
