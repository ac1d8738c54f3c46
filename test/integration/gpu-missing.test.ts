/** A run that was given a GPU, on a machine where TensorFlow finds none, must not be computed on the CPU in silence. */
import assert from 'node:assert/strict';
import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { after, test } from 'node:test';
import { z } from 'zod';
import { createLogger } from '../../src/logger.ts';
import { NO_CAPABILITIES } from '../../src/protocol/requirements.ts';
import { PROTOCOL_VERSION } from '../../src/protocol/worker-calls.ts';
import { startChild } from '../../workers/child-process.ts';
import { cpuFacts, type DeviceFacts } from '../../workers/devices.ts';
import { createWorkerRegistry } from '../../workers/registry/http.ts';
import { openRunStage } from '../support/run-stage.ts';
import { openWorkerDoor } from '../support/worker-door.ts';

const stage = await openRunStage();
const dataDir = path.join(stage.base, 'data');
const door = await openWorkerDoor({ databaseUrl: stage.database.url, dataDir });
after(async () => {
  await door.close();
  await stage.close();
});

/** Runs a pretraining in a real child on a device with these facts, which hides every GPU from it. */
async function runOn(facts: DeviceFacts) {
  const { id } = await stage.launchPretraining();
  const claimed = await createWorkerRegistry({ url: door.url, token: door.key }).claim(
    {
      ...{ protocolVersion: PROTOCOL_VERSION, programVersion: 'test', workerName: 'test', kinds: ['PRETRAINING'] },
      ...{ deviceId: 'GPU-aaaa', runId: id, waitSeconds: 0, capabilities: NO_CAPABILITIES },
    },
    AbortSignal.timeout(30_000),
  );
  assert.ok(claimed !== undefined);
  const workDir = path.join(dataDir, 'work', id);
  await mkdir(workDir, { recursive: true });
  const child = startChild(
    {
      ...{ url: door.url, dataDir, artifactsDir: null, workDir, logLevel: 'silent', codeRevision: null },
      ...{ cacheDir: path.join(dataDir, 'cache'), cacheBytes: 1e9 },
    },
    claimed,
    { id: 'GPU-aaaa', env: { CUDA_VISIBLE_DEVICES: '-1' }, facts },
    createLogger('silent', 'test'),
  );
  assert.equal((await child.ended).settled, true);
  const { environment } = await stage.database.db.run.findUniqueOrThrow({ where: { id } });
  const last = await stage.database.db.runEvent.findFirstOrThrow({
    where: { runId: id },
    orderBy: { sequence: 'desc' },
  });
  return { engine: z.object({ engine: z.object({ device: z.string() }) }).parse(environment).engine, last };
}

test('the run waits for another attempt, and its record says what was found', async () => {
  const { engine, last } = await runOn({ ...cpuFacts(), device: 'GPU', gpuMemoryMiB: 81_559 });
  assert.equal(engine.device, 'CPU');
  assert.deepEqual(
    [last.kind, last.message],
    [
      'REQUEUED',
      'The worker gave the run a GPU, but TensorFlow found none. The run continues from its last kept state.',
    ],
  );
});

test('a run that was given the CPU passes this check', async () => {
  // It fails later: the images of its dataset are not stored.
  const { engine, last } = await runOn(cpuFacts());
  assert.equal(engine.device, 'CPU');
  assert.doesNotMatch(last.message ?? '', /GPU/);
});
