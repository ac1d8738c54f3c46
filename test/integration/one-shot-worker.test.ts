/** `paraffin worker --once --run ID`: takes that run, or says why not, and ends with a code that scripts rely on. */
import { RUN_KINDS } from '../../src/protocol/runs.ts';
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { chmod, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { childEnvironment } from '../../src/env.ts';
import { ONE_SHOT_EXIT } from '../../src/protocol/one-shot.ts';
import { drawTissue } from '../../src/synthetic/tissue.ts';
import { ADMIN } from '../support/registry.ts';
import { openWorkerDoor } from '../support/worker-door.ts';
import { openRunStage } from '../support/run-stage.ts';

const PARAFFIN = path.resolve(import.meta.dirname, '../../src/cli/main.ts');
const stage = await openRunStage();
const { base, database, registry, datasetId, launchPretraining } = stage;
const door = await openWorkerDoor({ databaseUrl: database.url, dataDir: path.join(base, 'data') });
after(async () => {
  await door.close();
  await stage.close();
});

let settings = '';

before(async () => {
  await drawTissue({ outDir: path.join(base, 'images'), imagesPerLabel: 2, imageSizePx: 48, seed: 3, groups: 2 });
  settings = path.join(base, 'worker.env');
  await writeFile(
    settings,
    `PARAFFIN_URL="${door.url}"\nPARAFFIN_API_KEY="${door.key}"\nPARAFFIN_DATA_DIR=${path.join(base, 'data')}\nPARAFFIN_LOG_LEVEL=fatal\n`,
    { mode: 0o600 },
  );
});

interface Ended {
  readonly code: number;
  readonly stderr: string;
}

/** Through the command, because its exit code is what a script sees. The environment names no registry. */
function oneShot(words: readonly string[]): Promise<Ended> {
  const env = childEnvironment({
    PARAFFIN_URL: '',
    PARAFFIN_API_KEY: '',
    PARAFFIN_DATA_DIR: '',
    PARAFFIN_WORKER_NAME: 'job-1@node',
  });
  return new Promise((resolve) => {
    const child = execFile(process.execPath, [PARAFFIN, 'worker', ...words], { env }, (_error, _stdout, stderr) =>
      resolve({ code: child.exitCode ?? -1, stderr }),
    );
  });
}

const onceFor = (runId: string): Promise<Ended> => oneShot(['--once', '--run', runId, '--settings', settings]);

test('it takes that run and no other, whatever waits before it', async () => {
  const launchImport = () =>
    registry.runs.launchImport(ADMIN, {
      datasetId,
      path: path.join(base, 'images'),
      layout: 'FOLDER_PER_LABEL',
      dryRun: true,
    });
  const earlier = await launchImport();
  const wanted = await launchImport();
  assert.deepEqual(await onceFor(wanted.id), { code: ONE_SHOT_EXIT.SUCCEEDED, stderr: '' });
  assert.equal(await stage.statusOf(wanted.id), 'SUCCEEDED');
  assert.equal(await stage.statusOf(earlier.id), 'QUEUED');
  const row = await database.db.run.findUniqueOrThrow({ where: { id: wanted.id } });
  assert.equal(row.workerName, 'job-1@node');

  const again = await onceFor(wanted.id);
  assert.deepEqual(again, { code: ONE_SHOT_EXIT.NOT_TAKEN, stderr: 'The run is SUCCEEDED.\n' });
});

test('a run that fails has its own exit code', async () => {
  const { id } = await registry.runs.launchImport(ADMIN, {
    datasetId,
    path: path.join(base, 'images'),
    layout: 'FLAT',
  });
  await database.db.run.update({ where: { id }, data: { config: { datasetId, path: '/nowhere' } } });
  assert.equal((await onceFor(id)).code, ONE_SHOT_EXIT.RUN_NOT_SUCCEEDED);
  assert.equal(await stage.statusOf(id), 'FAILED');
});

describe('it says in one sentence why it did not take the run', () => {
  test('that another worker holds', async () => {
    const { id } = await launchPretraining();
    await registry.ledger.claim(RUN_KINDS, 'another', null, { runId: id });
    const { code, stderr } = await onceFor(id);
    assert.equal(code, ONE_SHOT_EXIT.NOT_TAKEN);
    assert.equal(stderr, 'The run is RUNNING: another worker holds it.\n');
  });

  test('because the registry does not accept its key', async () => {
    const stranger = path.join(base, 'stranger.env');
    await writeFile(
      stranger,
      `PARAFFIN_URL=${door.url}\nPARAFFIN_API_KEY=pfn_wrong\nPARAFFIN_DATA_DIR=${base}\nPARAFFIN_LOG_LEVEL=fatal\n`,
      {
        mode: 0o600,
      },
    );
    const { id } = await launchPretraining();
    const { code, stderr } = await oneShot(['--once', '--run', id, '--settings', stranger]);
    assert.deepEqual([code, stderr], [ONE_SHOT_EXIT.NOT_TAKEN, 'The key is wrong.\n']);
    assert.equal(await stage.statusOf(id), 'QUEUED');
  });

  test('that needs what this machine lacks', async () => {
    const { id } = await launchPretraining({ requirements: { labels: ['a100'], memoryMiB: 16 * 1024 * 1024 } });
    const { code, stderr } = await onceFor(id);
    assert.equal(code, ONE_SHOT_EXIT.NOT_TAKEN);
    assert.match(
      stderr,
      /^The run needs 16384 GiB of memory and the label a100, but this worker has [\d.]+ [GM]iB and does not have it\.\n$/,
    );
    assert.equal(await stage.statusOf(id), 'QUEUED');
  });

  test('that does not exist', async () => {
    const { code, stderr } = await onceFor('0198a7c2-0000-7000-8000-000000000001');
    assert.equal(code, ONE_SHOT_EXIT.NOT_TAKEN);
    assert.match(stderr, /^The run 0198a7c2\S+ does not exist\.\n$/);
  });
});

describe('wrong arguments', () => {
  test('--once without --run is refused', async () => {
    const { code, stderr } = await oneShot(['--once']);
    assert.equal(code, 2);
    assert.match(stderr, /--once and --run belong together/);
  });

  test('a settings file that others may read is refused, as is one that is missing', async () => {
    await chmod(settings, 0o640);
    const open = await onceFor('0198a7c2-0000-7000-8000-000000000001');
    await chmod(settings, 0o600);
    assert.equal(open.code, 1);
    assert.match(open.stderr, /other users may read it; run "chmod 600 /);
    const missing = await oneShot(['--settings', path.join(base, 'nothing')]);
    assert.match(missing.stderr, /cannot be read/);
  });
});
