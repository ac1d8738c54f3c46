/** The log of a worker: what a failed run tells users to look for must be there at the usual level. */
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { z } from 'zod';
import { makeRun } from '../support/checkpoints.ts';
import { openTestDatabase, type TestDatabase } from '../support/database.ts';
import { eventually } from '../support/eventually.ts';
import { startTestWorker, type TestWorker } from '../support/processes.ts';

const DEADLINE_MS = 120_000;
const entrySchema = z.object({ level: z.number(), runId: z.string(), error: z.object({ stack: z.string() }) });

let database: TestDatabase;
let dataDir = '';
let worker: TestWorker;
let log = '';

before(async () => {
  database = await openTestDatabase();
  dataDir = await mkdtemp(path.join(tmpdir(), 'paraffin-worker-log-'));
  worker = await startTestWorker({
    databaseUrl: database.url,
    dataDir,
    name: 'log',
    onLog: (text) => (log += text),
  });
});
after(async () => {
  worker.signal('SIGTERM');
  await worker.gone;
  await database.close();
  await rm(dataDir, { recursive: true, force: true });
});

test('has the stack of a run that failed unexpectedly, under the id of the run', async () => {
  // No pretraining can have the empty config of this run.
  const runId = await makeRun(database);
  const run = await eventually(
    'the run to fail',
    async () => {
      const row = await database.db.run.findUniqueOrThrow({ where: { id: runId } });
      return row.status === 'FAILED' ? row : undefined;
    },
    DEADLINE_MS,
  );
  assert.deepEqual(
    [run.failureCode, run.failureHint],
    ['INTERNAL', 'Search the worker log for the run id: it has the details.'],
  );
  const entries = await eventually('an entry of the run', () => {
    const found = log
      .split('\n')
      .filter((line) => line.includes(runId))
      .map((line) => entrySchema.parse(JSON.parse(line)));
    return found.length > 0 ? found : undefined;
  });
  assert.deepEqual(
    entries.map((entry) => [entry.level, entry.runId]),
    [[50, runId]],
  );
  assert.match(entries[0]?.error.stack ?? '', /ZodError[\s\S]*workers\/tasks\/pretrain\.ts/);
});
