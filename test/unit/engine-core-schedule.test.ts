import { test, describe } from 'node:test';
import assert from 'node:assert/strict';
import { checkSchedule, learningRateAt } from '../../workers/engine/optim/schedule.ts';

describe('learning rate', () => {
  test('rises linearly to the peak and then follows half a cosine down, at every step', () => {
    const schedule = { peakLearningRate: 0.6, warmupSteps: 10, totalSteps: 110 };
    for (let step = 0; step < schedule.totalSteps; step += 1) {
      const wanted = step < 10 ? 0.06 * (step + 1) : 0.6 * Math.cos((Math.PI * (step - 10)) / 200) ** 2;
      assert.ok(Math.abs(learningRateAt(schedule, step) - wanted) < 1e-12, `step ${step}`);
    }
    assert.equal(learningRateAt(schedule, 9), 0.6);
    assert.equal(learningRateAt(schedule, 10), 0.6);
  });

  test('begins at the peak without a warm-up; ends there if there is only a warm-up', () => {
    assert.equal(learningRateAt({ peakLearningRate: 1, warmupSteps: 0, totalSteps: 4 }, 0), 1);
    assert.equal(learningRateAt({ peakLearningRate: 1, warmupSteps: 4, totalSteps: 4 }, 3), 1);
  });

  test('follows the rest of its cosine over a changed total of steps, without a jump', () => {
    const before = { peakLearningRate: 1, warmupSteps: 10, totalSteps: 110 };
    const cosineAt = (progress: number): number => (1 + Math.cos(Math.PI * progress)) / 2;
    for (const totalSteps of [60, 200]) {
      const after = { ...before, totalSteps, earlierPlans: [{ untilStep: 35, totalSteps: 110 }] };
      checkSchedule(after);
      for (let step = 0; step < 35; step += 1) assert.equal(learningRateAt(after, step), learningRateAt(before, step));
      for (let step = 35; step < totalSteps; step += 1) {
        // A quarter of the cosine is over.
        const wanted = cosineAt(0.25 + (0.75 * (step - 35)) / (totalSteps - 35));
        assert.ok(Math.abs(learningRateAt(after, step) - wanted) < 1e-12, `step ${step} of ${totalSteps}`);
      }
    }
    const twice = {
      ...before,
      totalSteps: 100,
      earlierPlans: [
        { untilStep: 60, totalSteps: 110 },
        { untilStep: 80, totalSteps: 100 },
      ],
    };
    checkSchedule(twice);
    // Half of the cosine until step 60, half of the rest until step 80, and the remainder in 20 steps.
    for (const [step, progress] of [
      [60, 0.5],
      [70, 0.625],
      [80, 0.75],
      [90, 0.875],
    ] as const)
      assert.ok(Math.abs(learningRateAt(twice, step) - cosineAt(progress)) < 1e-12, `step ${step}`);
  });

  test('refuses a step out of range, and invalid schedules', () => {
    const schedule = { peakLearningRate: 1, warmupSteps: 1, totalSteps: 4 };
    for (const step of [-1, 4, 0.5, Number.NaN]) assert.throws(() => learningRateAt(schedule, step), RangeError);
    const bad = [
      { peakLearningRate: 0 },
      { peakLearningRate: Number.NaN },
      { peakLearningRate: Number.POSITIVE_INFINITY },
      { warmupSteps: 5 },
      { warmupSteps: -1 },
      { warmupSteps: 0.5 },
      { totalSteps: 0 },
      { totalSteps: 2.5 },
      { earlierPlans: [{ untilStep: 0, totalSteps: 8 }] },
      { earlierPlans: [{ untilStep: 2.5, totalSteps: 8 }] },
      { earlierPlans: [{ untilStep: 3, totalSteps: 3 }] },
      { earlierPlans: [{ untilStep: 5, totalSteps: 8 }] },
      {
        earlierPlans: [
          { untilStep: 3, totalSteps: 8 },
          { untilStep: 2, totalSteps: 8 },
        ],
      },
    ];
    for (const change of bad) assert.throws(() => checkSchedule({ ...schedule, ...change }), RangeError);
    checkSchedule(schedule);
  });
});
