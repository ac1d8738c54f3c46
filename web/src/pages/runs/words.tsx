/** How runs are worded. */
import { inside, words } from '../../ui/format.ts';
import { Tag, type Tone } from '../../ui/parts.tsx';

const TONES: Readonly<Record<string, Tone>> = { QUEUED: 'plain', RUNNING: 'busy', CANCELING: 'warn', SUCCEEDED: 'good', FAILED: 'bad', CANCELED: 'warn' };

export function Status({ status, queuePosition = null }: { readonly status: string; readonly queuePosition?: number | null }) {
  return <Tag tone={TONES[status] ?? 'plain'}>{status.toLowerCase()}{queuePosition === null ? '' : ` · ${queuePosition === 1 ? 'next' : `place ${queuePosition}`}`}</Tag>;
}

export function isOver(status: string): boolean {
  return status === 'SUCCEEDED' || status === 'FAILED' || status === 'CANCELED';
}

interface NamedVersion {
  readonly version: number;
  readonly dataset: { readonly name: string };
}

export interface TitledRun {
  readonly kind: string;
  readonly config: unknown;
  readonly datasetVersion: NamedVersion | null;
  /** What came of it: before that, only ids say what is evaluated. */
  readonly evaluation: { readonly checkpoint: { readonly version: number; readonly model: { readonly name: string } }; readonly datasetVersion: NamedVersion } | null;
}

/** One line that tells a run from others of its kind. */
export function runTitle({ kind, config, datasetVersion, evaluation }: TitledRun): string {
  const text = (name: string): string => String(inside(config, name) ?? '');
  switch (kind) {
    case 'PRETRAINING':
      return `${text('modelSlug')} · ${text('encoder')} · ${text('steps')} steps`;
    case 'EVALUATION':
      return evaluation === null ? words(text('protocol')) : `${words(text('protocol'))} · ${evaluation.checkpoint.model.name} v${evaluation.checkpoint.version} on ${versionTitle(evaluation.datasetVersion)}`;
    case 'IMPORT':
      return datasetVersion === null ? text('path') : versionTitle(datasetVersion);
    default:
      return text('modelSlug');
  }
}

function versionTitle({ version, dataset }: NamedVersion): string {
  return `${dataset.name} v${version}`;
}

/** Since when, or for how long. */
export function elapsedMs({ startedAt, finishedAt }: { readonly startedAt: string | null; readonly finishedAt: string | null }, nowMs: number): number | undefined {
  return startedAt === null ? undefined : (finishedAt === null ? nowMs : Date.parse(finishedAt)) - Date.parse(startedAt);
}
