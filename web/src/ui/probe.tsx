/** The result of a pretraining's own probe. */
import { words } from './format.ts';
import { Tag } from './parts.tsx';

export interface ProbeFacts {
  readonly sentence: string;
  readonly overlap: string | null;
  readonly advice: string | null;
  readonly overRandomEncoder: { readonly verdict: string };
}

const TONES: Readonly<Record<string, 'good' | 'warn'>> = { BETTER: 'good', WORSE: 'warn', NOT_DISTINGUISHABLE: 'warn' };

/** The same result inline, within a paragraph. */
export function ProbeVerdict({ probe }: { readonly probe: ProbeFacts }) {
  const { verdict } = probe.overRandomEncoder;
  return (
    <>
      {' '}
      <Tag tone={TONES[verdict] ?? 'warn'}>{verdict === 'BETTER' ? 'better than random' : words(verdict)}</Tag>{' '}
      {probe.sentence}. {probe.advice} {probe.overlap !== null && <span className="soft small">{probe.overlap}</span>}
    </>
  );
}
