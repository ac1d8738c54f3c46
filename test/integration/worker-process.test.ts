/** The worker process of a server: it lives exactly as long as the server. */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { createLogger } from '../../src/logger.ts';
import { startWorkerProcess } from '../../src/worker-process.ts';
import { eventually } from '../support/eventually.ts';
import { childrenOf, isAlive } from '../support/processes.ts';
import { temporaryFolder } from '../support/shards.ts';

/** Starts the worker; `newWorker` returns the pid of the process that runs it, if one does. */
async function startWorker(context: TestContext) {
  const earlier = await childrenOf(process.pid);
  const worker = startWorkerProcess({
    // Nobody answers there: a worker waits for its server.
    url: 'http://127.0.0.1:9',
    key: 'none',
    dataDir: await temporaryFolder(context),
    logLevel: 'silent',
    logger: createLogger('silent', 'test'),
  });
  const newWorker = async (): Promise<number | undefined> =>
    (await childrenOf(process.pid)).find((pid) => !earlier.includes(pid));
  return { worker, newWorker };
}

test('a worker that dies is restarted, and one that is stopped ends', async (context) => {
  const { worker, newWorker } = await startWorker(context);
  const first = await eventually('the worker', newWorker);
  process.kill(first, 'SIGKILL');
  await eventually('its end', async () => ((await isAlive(first)) ? undefined : true));
  const second = await eventually('the next worker', newWorker);
  assert.notEqual(second, first);
  await worker.stop();
  assert.equal(await isAlive(second), false);
});

test('a stop before a restart prevents the restart', async (context) => {
  const { worker, newWorker } = await startWorker(context);
  const pid = await eventually('the worker', newWorker);
  process.kill(pid, 'SIGKILL');
  await eventually('its end', async () => ((await isAlive(pid)) ? undefined : true));
  await worker.stop();
  assert.equal(await newWorker(), undefined);
});
