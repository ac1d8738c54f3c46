/**
 * The learning rate of each step: linear warm-up, then cosine decay to zero (Loshchilov and Hutter 2017,
 * arXiv:1608.03983; as in SimCLR).
 */

export interface Schedule {
  readonly peakLearningRate: number;
  readonly warmupSteps: number;
  readonly totalSteps: number;
  /**
   * Earlier values of `totalSteps`, oldest first [none]. After each change, the rest of the cosine spans the steps that
   * are left.
   */
  readonly earlierPlans?: readonly EarlierPlan[];
}

/** Steps before `untilStep` were taken when `totalSteps` was the total. */
export interface EarlierPlan {
  readonly untilStep: number;
  readonly totalSteps: number;
}

/**
 * @throws RangeError unless 0 <= warmupSteps <= totalSteps are whole, totalSteps is at least 1 and the rate is positive
 * and finite, and unless the changes are in ascending order, after the warm-up and before the end of each plan.
 */
export function checkSchedule({ peakLearningRate, warmupSteps, totalSteps, earlierPlans = [] }: Schedule): void {
  if (!(peakLearningRate > 0 && Number.isFinite(peakLearningRate)))
    throw new RangeError(`peakLearningRate must be positive, not ${peakLearningRate}.`);
  if (!Number.isSafeInteger(totalSteps) || totalSteps < 1)
    throw new RangeError(`totalSteps must be a whole number of at least 1, not ${totalSteps}.`);
  if (!Number.isSafeInteger(warmupSteps) || warmupSteps < 0 || warmupSteps > totalSteps) {
    throw new RangeError(`warmupSteps must be a whole number in 0..totalSteps, not ${warmupSteps}.`);
  }
  let from = warmupSteps;
  for (const { untilStep, totalSteps: total } of earlierPlans) {
    if (!(Number.isSafeInteger(untilStep) && untilStep >= from && untilStep < total && untilStep <= totalSteps))
      throw new RangeError(`A plan of ${total} steps cannot have ended at step ${untilStep}.`);
    from = untilStep;
  }
}

/**
 * The rate of the step with index 0..totalSteps-1.
 *
 * Step i of the warm-up has (i + 1) / warmupSteps of the peak, so that the first step already changes the weights; the
 * first step after the warm-up has the peak.
 * @throws RangeError for a step outside the schedule.
 */
export function learningRateAt(schedule: Schedule, stepIndex: number): number {
  const { peakLearningRate, warmupSteps, totalSteps, earlierPlans = [] } = schedule;
  if (!Number.isInteger(stepIndex) || stepIndex < 0 || stepIndex >= totalSteps)
    throw new RangeError(`Step ${stepIndex} is outside 0..${totalSteps - 1}.`);
  if (stepIndex < warmupSteps) return (peakLearningRate * (stepIndex + 1)) / warmupSteps;
  let [progress, from] = [0, warmupSteps];
  const advanceTo = (untilStep: number, total: number): void => {
    progress += ((1 - progress) * (untilStep - from)) / (total - from);
    from = untilStep;
  };
  for (const plan of earlierPlans) if (plan.untilStep <= stepIndex) advanceTo(plan.untilStep, plan.totalSteps);
  const currentPlan = earlierPlans.find((plan) => plan.untilStep > stepIndex);
  advanceTo(stepIndex, currentPlan?.totalSteps ?? totalSteps);
  return (peakLearningRate * (1 + Math.cos(Math.PI * progress))) / 2;
}
