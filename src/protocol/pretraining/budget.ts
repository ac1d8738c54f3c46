/**
 * The time budget of a pretraining: its text format, the steps that fit at a measured speed, and the replanning of a
 * run that turns out slower or faster.
 */

export const BUDGET_MIN_SECONDS = 10;
/** A year. */
export const BUDGET_MAX_SECONDS = 31_536_000;

/** Time reserved for the work after the last step: storing the state, loading the encoder again, registering it. */
const RESERVE_SHARE = 0.03;
const RESERVE_MIN_SECONDS = 3;
/** Upper limit, as a fraction of a short budget, of the reserve and of the time for measuring. */
const SHARE_MAX = 0.2;

const UNIT_SECONDS = { d: 86_400, h: 3600, m: 60, s: 1 } as const;
const DURATION = /^(?:(\d+(?:\.\d+)?)d)?(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m(?:in)?)?(?:(\d+(?:\.\d+)?)s)?$/;
const SECONDS = /^\d+(?:\.\d+)?$/;

/** Seconds of `90s`, `45m`, `1h`, `1h30m`, `2d` or `3600`; undefined for any other text. */
export function secondsOfDuration(text: string): number | undefined {
  const compact = text.trim().toLowerCase().replace(/\s+/g, '');
  if (SECONDS.test(compact)) return Number(compact);
  const [whole = '', days = '0', hours = '0', minutes = '0', seconds = '0'] = DURATION.exec(compact) ?? [];
  if (whole === '') return undefined;
  return (
    Number(days) * UNIT_SECONDS.d +
    Number(hours) * UNIT_SECONDS.h +
    Number(minutes) * UNIT_SECONDS.m +
    Number(seconds) * UNIT_SECONDS.s
  );
}

/** `1 hour 30 minutes`: the two largest units that are not 0. */
export function formatDuration(seconds: number): string {
  let left = Math.round(seconds);
  const parts: string[] = [];
  for (const [unit, length] of [
    ['day', UNIT_SECONDS.d],
    ['hour', UNIT_SECONDS.h],
    ['minute', UNIT_SECONDS.m],
    ['second', UNIT_SECONDS.s],
  ] as const) {
    const count = Math.floor(left / length);
    left -= count * length;
    if (count > 0) parts.push(`${count} ${unit}${count === 1 ? '' : 's'}`);
  }
  return parts.length === 0 ? '0 seconds' : parts.slice(0, 2).join(' ');
}

/** Seconds of the budget that are reserved for the work after the last step. */
export function reserveSeconds(budgetSeconds: number): number {
  return Math.min(SHARE_MAX * budgetSeconds, Math.max(RESERVE_MIN_SECONDS, RESERVE_SHARE * budgetSeconds));
}

/** The longest time in seconds that a worker may spend on measuring the device. */
export function measuringSecondsMax(budgetSeconds: number): number {
  return Math.min(60, (SHARE_MAX / 2) * budgetSeconds);
}

/** Whole steps that fit into the rest of the budget without the reserve; 0 if none fits. */
export function stepsWithin(
  { budgetSeconds, elapsedSeconds }: { readonly budgetSeconds: number; readonly elapsedSeconds: number },
  secondsPerStep: number,
): number {
  return Math.max(0, Math.floor((budgetSeconds - reserveSeconds(budgetSeconds) - elapsedSeconds) / secondsPerStep));
}

/**
 * The plan is changed if, at the measured speed, the run would miss the end of the budget by more than this fraction of
 * it.
 */
const DRIFT_SHARE = 0.02;

/**
 * The new total of steps, from the measured speed of the steps so far.
 * @returns undefined while the plan is still valid.
 */
export function replannedSteps(
  plan: { readonly steps: number; readonly stepsDone: number },
  clock: { readonly budgetSeconds: number; readonly elapsedSeconds: number },
  secondsPerStep: number,
): number | undefined {
  const fitting = plan.stepsDone + stepsWithin(clock, secondsPerStep);
  const missedSeconds = Math.abs(fitting - plan.steps) * secondsPerStep;
  return missedSeconds > DRIFT_SHARE * clock.budgetSeconds ? fitting : undefined;
}
