/** A diagram from datasets through the run to the checkpoint and its evaluations; its parts are links. */
import { Link } from '@tanstack/react-router';
import { score, words } from '../../ui/format.ts';
import type { CheckpointDetail } from './queries.ts';

interface LineageNode {
  readonly key: string;
  readonly title: string;
  readonly note: string;
  readonly to: { readonly page: 'dataset' | 'run' | 'evaluation'; readonly id: string } | null;
}

const COLUMN_PX = 230;
const ROW_PX = 62;
const BOX_PX = { width: 190, height: 46 } as const;

export function Lineage({ checkpoint, name }: { readonly checkpoint: CheckpointDetail; readonly name: string }) {
  const datasets: LineageNode[] = checkpoint.trainedOn.map((version) => ({
    key: version.id,
    title: `${version.dataset.name} v${version.version}`,
    note: version.dataset.synthetic ? 'SYNTHETIC dataset' : 'dataset',
    to: { page: 'dataset', id: version.dataset.slug },
  }));
  const runs: LineageNode[] =
    checkpoint.sourceRun === null
      ? [
          {
            key: 'source',
            title: checkpoint.importedFrom?.fileName ?? 'elsewhere',
            note: checkpoint.sha256 === null ? 'not imported yet' : 'imported',
            to: null,
          },
        ]
      : [
          {
            key: checkpoint.sourceRun.id,
            title: 'Pretraining',
            note: 'run',
            to: { page: 'run', id: checkpoint.sourceRun.id },
          },
        ];
  const self: LineageNode[] = [
    { key: checkpoint.id, title: `${name} v${checkpoint.version}`, note: checkpoint.architecture.name, to: null },
  ];
  const evaluations: LineageNode[] = checkpoint.evaluations.nodes.map((evaluation) => {
    const [metric] = evaluation.metrics;
    return {
      key: evaluation.id,
      title: `${evaluation.datasetVersion.dataset.name} v${evaluation.datasetVersion.version}`,
      note: `${words(evaluation.protocol)}${metric === undefined ? '' : ` ${score(metric.value)}`}`,
      to: { page: 'evaluation', id: evaluation.id },
    };
  });
  const columns = [datasets, runs, self, evaluations].filter((column) => column.length > 0);
  const height = Math.max(...columns.map((column) => column.length)) * ROW_PX;
  const place = (column: number, row: number, of: number) => ({
    x: column * COLUMN_PX + 4,
    y: (height * (row + 0.5)) / of - BOX_PX.height / 2,
  });
  return (
    <div className="scroll" tabIndex={0} role="region" aria-label="Lineage: datasets, run, checkpoint, evaluations">
      <svg width={columns.length * COLUMN_PX} height={height} className="lineage">
        {columns.slice(1).flatMap((column, index) =>
          (columns[index] ?? []).flatMap((from, row) =>
            column.map((to, target) => {
              const start = place(index, row, columns[index]?.length ?? 1);
              const end = place(index + 1, target, column.length);
              const [x1, y1, x2, y2] = [
                start.x + BOX_PX.width,
                start.y + BOX_PX.height / 2,
                end.x,
                end.y + BOX_PX.height / 2,
              ];
              return (
                <path
                  key={`${from.key} ${to.key}`}
                  d={`M${x1} ${y1}C${x1 + 25} ${y1} ${x2 - 25} ${y2} ${x2} ${y2}`}
                  fill="none"
                  stroke="var(--line-strong)"
                />
              );
            }),
          ),
        )}
        {columns.flatMap((column, index) =>
          column.map((node, row) => {
            const { x, y } = place(index, row, column.length);
            return (
              <foreignObject key={node.key} x={x} y={y} width={BOX_PX.width} height={BOX_PX.height}>
                <div className="lineage-box">
                  <NodeTitle node={node} />
                  <span className="soft">{node.note}</span>
                </div>
              </foreignObject>
            );
          }),
        )}
      </svg>
    </div>
  );
}

function NodeTitle({ node: { title, to } }: { readonly node: LineageNode }) {
  switch (to?.page) {
    case 'dataset':
      return (
        <Link to="/datasets/$slug" params={{ slug: to.id }}>
          {title}
        </Link>
      );
    case 'run':
      return (
        <Link to="/runs/$id" params={{ id: to.id }}>
          {title}
        </Link>
      );
    case 'evaluation':
      return (
        <Link to="/evaluations/$id" params={{ id: to.id }}>
          {title}
        </Link>
      );
    case undefined:
      return <strong>{title}</strong>;
  }
}
