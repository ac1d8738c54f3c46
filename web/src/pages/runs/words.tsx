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

/** One line that tells a run from others of its kind. */
export function runTitle({ kind, config, datasetVersion }: { readonly kind: string; readonly config: unknown; readonly datasetVersion: { readonly version: number; readonly dataset: { readonly name: string } } | null }): string {
  const text = (name: string): string => String(inside(config, name) ?? '');
  switch (kind) {
    case 'PRETRAINING':
      return `${text('modelSlug')} · ${text('encoder')} · ${text('steps')} steps`;
    case 'EVALUATION':
      return words(text('protocol'));
    case 'IMPORT':
      return datasetVersion === null ? text('path') : `${datasetVersion.dataset.name} v${datasetVersion.version}`;
    default:
      return text('modelSlug');
  }
}

/** Since when, or for how long. */
export function elapsedMs({ startedAt, finishedAt }: { readonly startedAt: string | null; readonly finishedAt: string | null }, nowMs: number): number | undefined {
  return startedAt === null ? undefined : (finishedAt === null ? nowMs : Date.parse(finishedAt)) - Date.parse(startedAt);
}
