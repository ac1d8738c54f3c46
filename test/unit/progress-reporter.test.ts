/** Progress is joined into few reports, which are sent beside the work, and none of it is lost. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { createProgressReporter } from '../../workers/progress-reporter.ts';
import { REPORT_POINTS_MAX, type NumberedReport } from '../../src/protocol/runs.ts';

function record() {
  const written: NumberedReport[] = [];
  return { written, reporter: createProgressReporter(async (report) => void written.push(report)) };
}

describe('progress reporter', () => {
  test('writes the first report at once, and joins later ones until flush', async () => {
    const { written, reporter } = record();
    await reporter.progress(0, 'Looking.');
    for (let step = 0; step < 50; step += 1)
      await reporter.recordMetrics(step / 50, { step, metrics: { loss: 50 - step } });
    await reporter.flush();
    assert.deepEqual(written[0], { sequence: 1, progress: 0, message: 'Looking.' });
    assert.ok(written.length < 10, `${written.length} writes for 51 reports`);
    const steps = written.flatMap((report) => (report.points ?? []).map((point) => point.step));
    assert.deepEqual(
      steps,
      Array.from({ length: 50 }, (_, index) => index),
    );
    assert.equal(written.at(-1)?.progress, 49 / 50);
  });

  test('flush writes nothing if there is nothing new', async () => {
    const { written, reporter } = record();
    await reporter.flush();
    await reporter.progress(0.5);
    await reporter.flush();
    await reporter.flush();
    assert.deepEqual(written, [{ sequence: 1, progress: 0.5 }]);
  });

  test('a fraction stays within 0 and 1', async () => {
    const { written, reporter } = record();
    await reporter.progress(1.5);
    await reporter.progress(-1);
    await reporter.flush();
    assert.deepEqual(
      written.map((report) => report.progress),
      [1, 0],
    );
  });

  test('a message is kept while metrics join it', async () => {
    const { written, reporter } = record();
    await reporter.progress(0);
    await reporter.progress(0.1, 'Continues from step 5.');
    await reporter.recordMetrics(0.2, { step: 5, metrics: { loss: 1 } });
    await reporter.flush();
    assert.deepEqual(written.at(-1), {
      sequence: 2,
      progress: 0.2,
      message: 'Continues from step 5.',
      points: [{ step: 5, metrics: { loss: 1 } }],
    });
  });

  test('a message is kept while progress without one joins it', async () => {
    const { written, reporter } = record();
    await reporter.progress(0);
    await reporter.progress(0.1, 'Continues from step 5.');
    await reporter.progress(0.2);
    await reporter.flush();
    assert.deepEqual(written.at(-1), { sequence: 2, progress: 0.2, message: 'Continues from step 5.' });
  });

  test('what ends the sending is thrown at the next report, and nothing is sent after it', async () => {
    let sent = 0;
    const reporter = createProgressReporter(() => {
      sent += 1;
      return Promise.reject(new Error('LEASE_LOST'));
    });
    await reporter.progress(0.5);
    await assert.rejects(reporter.flush(), /LEASE_LOST/);
    await assert.rejects(reporter.progress(0.6), /LEASE_LOST/);
    await assert.rejects(reporter.flush(), /LEASE_LOST/);
    assert.equal(sent, 1);
  });

  test('while the registry is away the work goes on, and every step arrives afterwards, once and in order', async () => {
    const written: NumberedReport[] = [];
    const { promise: back, resolve: comeBack } = Promise.withResolvers<void>();
    const reporter = createProgressReporter(async (report) => {
      await back;
      written.push(report);
    });
    const steps = 2_500;
    // Each of these would hang if a step waited for the registry.
    for (let step = 0; step < steps; step += 1)
      await reporter.recordMetrics(step / steps, { step, metrics: { loss: step } });
    assert.equal(written.length, 0);
    comeBack();
    await reporter.flush();
    const points = written.flatMap((report) => report.points ?? []);
    assert.deepEqual(
      points.map(({ step }) => step),
      Array.from({ length: steps }, (_, step) => step),
    );
    assert.deepEqual(
      written.map(({ sequence }) => sequence),
      written.map((_, index) => index + 1),
    );
    assert.ok(written.every(({ points: some = [] }) => some.length <= REPORT_POINTS_MAX));
  });

  test('a metric that is not a number is left out', async () => {
    const { written, reporter } = record();
    await reporter.recordMetrics(0, { step: 0, metrics: { loss: Number.NaN, learningRate: 0.1 } });
    await reporter.flush();
    assert.deepEqual(written[0]?.points, [{ step: 0, metrics: { learningRate: 0.1 } }]);
  });
});
