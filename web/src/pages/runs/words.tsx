/** The wording of runs. */
import { Tag, type Tone } from '../../ui/parts.tsx';

const TONES: Readonly<Record<string, Tone>> = {
  QUEUED: 'plain',
  RUNNING: 'busy',
  CANCELING: 'warn',
  SUCCEEDED: 'good',
  FAILED: 'bad',
  CANCELED: 'warn',
};

export function Status({
  status,
  queuePosition = null,
}: {
  readonly status: string;
  readonly queuePosition?: number | null;
}) {
  return (
    <Tag tone={TONES[status] ?? 'plain'}>
      {status.toLowerCase()}
      {queuePosition === null ? '' : ` · ${queuePosition === 1 ? 'next' : `place ${queuePosition}`}`}
    </Tag>
  );
}

export function isOver(status: string): boolean {
  return status === 'SUCCEEDED' || status === 'FAILED' || status === 'CANCELED';
}

/** Since when, or for how long. */
export function elapsedMs(
  { startedAt, finishedAt }: { readonly startedAt: string | null; readonly finishedAt: string | null },
  nowMs: number,
): number | undefined {
  return startedAt === null
    ? undefined
    : (finishedAt === null ? nowMs : Date.parse(finishedAt)) - Date.parse(startedAt);
}
