/** Progress is joined into few writes, and none of it is lost. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { createProgressReporter } from '../../workers/progress-reporter.ts';
import type { ProgressReport } from '../../src/protocol/runs.ts';

function record() {
  const written: ProgressReport[] = [];
  return { written, reporter: createProgressReporter(async (report) => void written.push(report)) };
}

describe('progress reporter', () => {
  test('writes the first report at once, and joins later ones until flush', async () => {
    const { written, reporter } = record();
    await reporter.progress(0, 'Looking.');
    for (let step = 0; step < 50; step += 1)
      await reporter.recordMetrics(step / 50, { step, metrics: { loss: 50 - step } });
    await reporter.flush();
    assert.deepEqual(written[0], { progress: 0, message: 'Looking.' });
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
    assert.deepEqual(written, [{ progress: 0.5 }]);
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
    assert.deepEqual(written.at(-1), { progress: 0.2, message: 'Continues from step 5.' });
  });

  test('a write that fails is reported to the caller', async () => {
    const reporter = createProgressReporter(() => Promise.reject(new Error('LEASE_LOST')));
    await assert.rejects(reporter.progress(0.5), /LEASE_LOST/);
  });
});
