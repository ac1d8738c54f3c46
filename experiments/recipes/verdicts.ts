/** Decides whether the default settings reach their targets. Pure functions from measurements to verdicts. */
import { BAR_MINUTES, type BarEstimate, type MeasuredBar } from './bars.ts';
import { SEEDS } from './plan.ts';

export interface Verdict {
  readonly bar: string;
  /** NOT MEASURED if a seed is missing. */
  readonly verdict: 'REACHED' | 'MISSED' | 'NOT MEASURED';
  readonly figures: string;
}

type Test = MeasuredBar['tests'][string];

/** Minimum gain in macro-F1 of an hour of training on pcam-mini. */
const PCAM_GAIN = 0.05;

/** A gain is significant if its whole paired interval is above 0. */
const isGain = ({ ci95Low }: BarEstimate): boolean => ci95Low > 0;
const isLoss = ({ ci95High }: BarEstimate): boolean => ci95High < 0;

export function verdictsOf(bars: readonly MeasuredBar[]): Verdict[] {
  const pcam = testsOf(bars, 'pcam-mini', 'pcam-mini test');
  const histology = ['osteosarcoma_ut', 'kather2016_texture', 'lc25000_lung'].map(
    (name) => [name, testsOf(bars, 'histology-mini', name)] as const,
  );
  return [
    verdict(
      `pcam-mini, ${BAR_MINUTES['pcam-mini']} minutes: at least ${PCAM_GAIN} above a random encoder and above colour statistics, beyond the intervals`,
      pcam,
      ({ againstRandom, againstColour }) =>
        [againstRandom, againstColour].every((gain) => isGain(gain)) &&
        meanOf(pcam, 'againstRandom') >= PCAM_GAIN &&
        meanOf(pcam, 'againstColour') >= PCAM_GAIN,
    ),
    ...histology.map(([name, tests]) =>
      name === 'lc25000_lung'
        ? verdict(
            `${name}, ${BAR_MINUTES['histology-mini']} minutes: not worse than random`,
            tests,
            (test) => !isLoss(test.againstRandom),
          )
        : verdict(
            `${name}, ${BAR_MINUTES['histology-mini']} minutes: better than random beyond the interval`,
            tests,
            (test) => isGain(test.againstRandom),
          ),
    ),
  ];
}

function testsOf(bars: readonly MeasuredBar[], data: MeasuredBar['data'], name: string): Test[] {
  return bars
    .filter((bar) => bar.data === data && bar.minutes === BAR_MINUTES[data])
    .flatMap(({ tests }) => tests[name] ?? []);
}

function verdict(bar: string, tests: readonly Test[], holds: (test: Test) => boolean): Verdict {
  const figures =
    tests.length === 0
      ? 'no seed'
      : `${tests.length} of ${SEEDS.length} seeds, ${gain(meanOf(tests, 'againstRandom'))} against random, ${gain(meanOf(tests, 'againstColour'))} against colour statistics`;
  if (tests.length < SEEDS.length) return { bar, verdict: 'NOT MEASURED', figures };
  return { bar, verdict: tests.every(holds) ? 'REACHED' : 'MISSED', figures };
}

function meanOf(tests: readonly Test[], against: 'againstRandom' | 'againstColour'): number {
  return tests.reduce((sum, test) => sum + test[against].value, 0) / tests.length;
}

function gain(value: number): string {
  return `${value < 0 ? '' : '+'}${value.toFixed(3)}`;
}
