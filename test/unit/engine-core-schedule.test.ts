import { test, describe } from 'node:test';
import assert from 'node:assert/strict';
import { checkSchedule, learningRateAt } from '../../workers/engine/optim/schedule.ts';

describe('learning rate', () => {
  test('at every step: a line up to the peak, then half a cosine down', () => {
    const schedule = { peakLearningRate: 0.6, warmupSteps: 10, totalSteps: 110 };
    for (let step = 0; step < schedule.totalSteps; step += 1) {
      const wanted = step < 10 ? 0.06 * (step + 1) : 0.6 * Math.cos((Math.PI * (step - 10)) / 200) ** 2;
      assert.ok(Math.abs(learningRateAt(schedule, step) - wanted) < 1e-12, `step ${step}`);
    }
    assert.equal(learningRateAt(schedule, 9), 0.6);
    assert.equal(learningRateAt(schedule, 10), 0.6);
  });

  test('without a warm-up it begins at the peak; with nothing else it ends there', () => {
    assert.equal(learningRateAt({ peakLearningRate: 1, warmupSteps: 0, totalSteps: 4 }, 0), 1);
    assert.equal(learningRateAt({ peakLearningRate: 1, warmupSteps: 4, totalSteps: 4 }, 3), 1);
  });

  test('refuses a step outside, and schedules that make no sense', () => {
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
    ];
    for (const change of bad) assert.throws(() => checkSchedule({ ...schedule, ...change }), RangeError);
    checkSchedule(schedule);
  });
});
