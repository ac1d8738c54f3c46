/** Rounds of the Kubernetes launcher between a real registry and a stand-in API server: leases decide, pods do not. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { after, afterEach, before, beforeEach, describe, test, type TestContext } from 'node:test';
import { childEnvironment } from '../../src/env.ts';
import { createLogger } from '../../src/logger.ts';
import { createLedger } from '../../src/modules/runs/index.ts';
import { RUN_KINDS } from '../../src/protocol/runs.ts';
import { createKubernetesApi } from '../../workers/launchers/kubernetes/api.ts';
import { openConnection } from '../../workers/launchers/kubernetes/connection.ts';
import { createKubernetes } from '../../workers/launchers/kubernetes/index.ts';
import { siteSchema } from '../../workers/launchers/kubernetes/job.ts';
import { createPlacementRegistry } from '../../workers/launchers/registry.ts';
import { createRounds, type Rounds } from '../../workers/launchers/rounds.ts';
import { at } from '../support/catalogue.ts';
import { makeRun } from '../support/checkpoints.ts';
import { newKey } from '../support/keys.ts';
import { openTestDatabase, type TestDatabase } from '../support/database.ts';
import { startStandIn, type StandIn } from '../support/kubernetes-api.ts';
import { startTestServer, type TestServer } from '../support/server.ts';
import { temporaryFolder } from '../support/shards.ts';

let database: TestDatabase;
let server: TestServer;
let key = '';
let cluster: StandIn;
let rounds: Rounds;
let nowMs = 0;

before(async () => {
  database = await openTestDatabase();
  server = await startTestServer(database);
  key = await newKey(server, { role: 'OPERATOR', actions: ['READ', 'LAUNCH', 'WORK'] });
});
after(async () => {
  await server.close();
  await database.close();
});
beforeEach(async () => {
  await database.db.run.updateMany({ data: { status: 'CANCELED' } });
  await database.db.placement.deleteMany();
  cluster = await startStandIn();
  nowMs += 1_000_000;
  rounds = createRounds({
    registry: createPlacementRegistry({
      url: server.url,
      key,
      launcher: 'kubernetes',
      kinds: ['PRETRAINING'],
      labels: [],
    }),
    launcher: createKubernetes({
      api: createKubernetesApi(openConnection({ url: cluster.url, accountFolder: undefined }), cluster.namespace),
      template: {
        launcher: 'kubernetes',
        image: 'paraffin-worker',
        secretName: 'paraffin-worker-kubernetes',
        queue: undefined,
        resources: { cpus: 2, memoryGib: 8, diskGib: 50, gpus: 0, gpuResource: 'nvidia.com/gpu' },
        limitSeconds: 3_600,
        graceSeconds: 120,
        site: siteSchema.parse({}),
      },
    }),
    logger: createLogger('silent', 'test'),
    jobsMax: 3,
    nowMs: () => nowMs,
  });
});
afterEach(() => cluster.close());

/** A round that begins this much later than the last one. */
async function round(laterMs = 30_000): Promise<void> {
  nowMs += laterMs;
  await rounds.next();
}

const placementsOf = (runId: string) =>
  database.db.placement.findMany({ where: { runId }, orderBy: { number: 'asc' } });
async function stateOf(runId: string): Promise<string> {
  return (await placementsOf(runId)).map((each) => `${each.state} ${each.schedulerState ?? ''}`.trim()).join(', ');
}

/** A run whose Job has a pod that runs, and whose worker holds the lease. */
async function carried() {
  const runId = await makeRun(database);
  await round();
  const [placement] = await placementsOf(runId);
  const jobName = placement?.name ?? '';
  cluster.changePod(jobName, { phase: 'Running' });
  const ledger = createLedger(database.db, database.transact);
  const claimed = await ledger.claim(RUN_KINDS, `${jobName}@node7`, null, { runId });
  assert.ok(claimed !== undefined);
  await round();
  assert.equal(await stateOf(runId), 'RUNNING Running');
  return { runId, jobName, giveBack: () => ledger.release(claimed.lease, 'The lease lapsed.') };
}

const killed = { phase: 'Failed', containerStatuses: [] };
const disrupted = (reason: string) => ({
  ...killed,
  conditions: [{ type: 'DisruptionTarget', status: 'True', reason }],
});
const ended = (reason: string, exitCode: number) => ({
  phase: 'Failed',
  containerStatuses: [
    {
      ...{ name: 'worker', image: 'w', imageID: 'w', ready: false, restartCount: 0 },
      state: { terminated: { exitCode, reason } },
    },
  ],
});

test('a waiting run becomes a Job, and people see where it waits and runs', async () => {
  const runId = await makeRun(database);
  await round();
  const [placement] = await placementsOf(runId);
  const jobName = placement?.name ?? '';
  cluster.changePod(jobName, {
    phase: 'Pending',
    conditions: [{ type: 'PodScheduled', status: 'False', reason: 'Unschedulable', message: '0/5 nodes have a GPU' }],
  });
  await round();
  const answer = await server.ask('query($id: ID!) { run(id: $id) { placements { sentence } } }', { id: runId });
  assert.equal(at(answer, 'data.run.placements.0.sentence'), 'waiting in kubernetes: 0/5 nodes have a GPU');
});

describe('the lease decides, and not the pod:', () => {
  const ends: readonly [string, (jobName: string) => void, string][] = [
    ['evicted', (name) => cluster.changePod(name, disrupted('EvictionByEvictionAPI')), 'EvictionByEvictionAPI'],
    ['preempted', (name) => cluster.changePod(name, disrupted('PreemptionByScheduler')), 'PreemptionByScheduler'],
    [
      'lost with its node',
      (name) => cluster.changePod(name, disrupted('DeletionByTaintManager')),
      'DeletionByTaintManager',
    ],
    ['deleted', (name) => cluster.deletePod(name), 'BackoffLimitExceeded'],
    ['out of memory', (name) => cluster.changePod(name, ended('OOMKilled', 137)), 'OOMKilled'],
  ];
  for (const [name, end, schedulerState] of ends)
    test(`a run whose pod was ${name} is placed again when the registry has it back, and not before`, async () => {
      const { runId, jobName, giveBack } = await carried();
      end(jobName);
      await round();
      // The process may live on, on a node that nobody reaches.
      assert.equal(await stateOf(runId), 'RUNNING Running');
      assert.equal(cluster.jobs.size, 1);
      await giveBack();
      await round();
      await round();
      assert.equal(await stateOf(runId), `ENDED ${schedulerState}, WAITING`);
      assert.equal(cluster.jobs.size, 2);
    });

  test('a pod that the API still calls running, on a node that is gone, does not hold up its run', async () => {
    const { runId, jobName, giveBack } = await carried();
    await giveBack();
    // A minute for a worker that only ends late; then the Job is deleted, and is gone after several looks.
    for (let looks = 0; looks < 8 && (await placementsOf(runId)).length < 2; looks += 1) await round();
    assert.ok(!cluster.jobs.has(jobName));
    assert.equal(await stateOf(runId), 'ENDED VANISHED, WAITING');
  });

  test('a Job that somebody deleted is unknown while its worker renews the lease, and the run goes on', async () => {
    const { runId, jobName, giveBack } = await carried();
    cluster.jobs.delete(jobName);
    cluster.pods.delete(jobName);
    for (let looks = 0; looks < 5; looks += 1) await round();
    assert.equal(await stateOf(runId), 'RUNNING Running');
    await giveBack();
    for (let looks = 0; looks < 5 && (await placementsOf(runId)).length < 2; looks += 1) await round();
    assert.equal(await stateOf(runId), 'ENDED VANISHED, WAITING');
  });
});

test('a creation whose answer was lost makes one Job', async () => {
  const runId = await makeRun(database);
  cluster.trouble = 'LOSE';
  await round();
  assert.equal(await stateOf(runId), 'SUBMITTING');
  assert.equal(cluster.jobs.size, 1);
  cluster.trouble = undefined;
  await round();
  await round();
  assert.equal(await stateOf(runId), 'WAITING Pending');
  assert.equal(cluster.jobs.size, 1);
});

for (const trouble of ['AWAY', 401, 403, 500] as const)
  test(`while the API server answers with ${trouble} nothing is concluded`, async () => {
    const { runId } = await carried();
    cluster.trouble = trouble;
    for (let looks = 0; looks < 5; looks += 1) await round(60_000);
    assert.equal(await stateOf(runId), 'RUNNING Running');
    cluster.trouble = undefined;
    assert.equal(cluster.jobs.size, 1);
  });

test('a Job that is refused is told with its reason, and tried again after a minute', async () => {
  const runId = await makeRun(database);
  cluster.forbidden.add('POST jobs');
  await round();
  const [placement] = await placementsOf(runId);
  assert.equal(placement?.state, 'PLANNED');
  assert.match(placement.reason ?? '', /^403: jobs is forbidden: .*; the launcher's role lacks this right/);
  cluster.forbidden.clear();
  await round();
  assert.equal(cluster.jobs.size, 0);
  await round(60_000);
  assert.equal(await stateOf(runId), 'WAITING');
});

test('a run that is cancelled while its Job waits takes the Job with it', async () => {
  const runId = await makeRun(database);
  await round();
  await server.ask('mutation($id: ID!) { cancelRun(id: $id) { userErrors { message } } }', { id: runId });
  await round();
  assert.equal(cluster.jobs.size, 0);
});

describe('paraffin launcher --kubernetes', () => {
  const PARAFFIN = path.resolve(import.meta.dirname, '../../src/cli/main.ts');

  async function check(context: TestContext, words: readonly string[] = [], site = '{}', usedKey = key) {
    const folder = await temporaryFolder(context);
    await writeFile(path.join(folder, 'key'), `${usedKey}\n`);
    await writeFile(path.join(folder, 'site.json'), site);
    const env = childEnvironment({ PARAFFIN_URL: server.url, PARAFFIN_API_KEY: '', PARAFFIN_DATA_DIR: folder });
    return new Promise<{ code: number | null; output: string }>((resolve) => {
      const child = execFile(
        process.execPath,
        [
          ...[PARAFFIN, 'launcher', '--kubernetes', '--image', 'paraffin-worker', '--check'],
          ...['--key-file', path.join(folder, 'key'), '--template', path.join(folder, 'site.json')],
          ...['--api', cluster.url, '--namespace', 'lab', ...words],
        ],
        { env },
        (_error, stdout, stderr) => resolve({ code: child.exitCode, output: stdout + stderr }),
      );
    });
  }

  test('asks the cluster and the registry, and leaves nothing behind', async (context) => {
    const { code, output } = await check(context);
    assert.equal(output, 'The cluster would take the jobs, and the server knows this launcher.\n');
    assert.equal(code, 0);
    assert.equal(cluster.jobs.size + cluster.secrets.size, 0);
    assert.ok(cluster.requests.some((request) => request.startsWith('PATCH ') && request.includes('dryRun=All')));
  });

  test('does not begin without the right to write the Secret, unless there is one', async (context) => {
    cluster.forbidden.add('PATCH secrets');
    const { code, output } = await check(context);
    assert.equal(code, 1);
    assert.match(output, /^The Secret paraffin-worker-kubernetes .* cannot be written in the namespace lab: 403: /);
    assert.equal((await check(context, ['--settings', 'paraffin-worker'])).code, 0);
  });

  test('does not begin with a key that its workers could not use, unless they have one of their own', async (context) => {
    const weak = await newKey(server, { role: 'OPERATOR', actions: ['READ', 'LAUNCH'] });
    const { code, output } = await check(context, [], '{}', weak);
    assert.equal(code, 1);
    assert.match(output, /^The key may not WORK\. /);
    assert.equal((await check(context, ['--settings', 'paraffin-worker'], '{}', weak)).code, 0);
  });

  test('does not begin with a site that would change what is its own, or that Kubernetes refuses', async (context) => {
    const own = await check(context, [], '{"restartPolicy": "Always"}');
    assert.equal(own.code, 1);
    assert.match(own.output, /site\.json is not valid:[^]*restartPolicy/);
    const refused = await check(context, [], '{"tolerations": [{"efect": "NoSchedule"}]}');
    assert.equal(refused.code, 1);
    assert.match(refused.output, /^The cluster would not create the Job in the namespace lab: 422: .*efect/);
  });

  test('does not begin without an image, a folder, or the kind of cluster', async () => {
    for (const [words, sentence] of [
      [['--kubernetes'], /--kubernetes needs --image/],
      [['--slurm'], /--slurm needs --folder/],
      [[], /--slurm or --kubernetes/],
      [['--slurm', '--kubernetes'], /cannot be used with/],
    ] as const) {
      const env = childEnvironment({ PARAFFIN_URL: server.url, PARAFFIN_API_KEY: key });
      const output = await new Promise<string>((resolve) => {
        execFile(process.execPath, [PARAFFIN, 'launcher', ...words], { env }, (error, _stdout, stderr) => {
          assert.notEqual(error, null);
          resolve(stderr);
        });
      });
      assert.match(output, sentence);
    }
  });
});
