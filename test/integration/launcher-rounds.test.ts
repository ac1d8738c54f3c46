/** Rounds of a launcher against a real registry over HTTP, and a cluster whose faults the tests choose. */
import { RUN_KINDS } from '../../src/protocol/runs.ts';
import assert from 'node:assert/strict';
import { after, before, beforeEach, describe, test } from 'node:test';
import { createLogger } from '../../src/logger.ts';
import { createLedger } from '../../src/modules/runs/index.ts';
import type { Job, JobSight, Launcher, Submission } from '../../workers/launchers/launcher.ts';
import { createPlacementRegistry, RegistryError } from '../../workers/launchers/registry.ts';
import { createRounds, type Rounds } from '../../workers/launchers/rounds.ts';
import { at } from '../support/catalogue.ts';
import { makeRun } from '../support/checkpoints.ts';
import { openTestDatabase, type TestDatabase } from '../support/database.ts';
import { newKey } from '../support/keys.ts';
import { startTestServer, type TestServer } from '../support/server.ts';

let database: TestDatabase;
let server: TestServer;
let key = '';
let nowMs = 0;
let cluster: Cluster;
let rounds: Rounds;

/** A scheduler in memory that loses answers, forgets jobs and goes away as it is told. */
class Cluster implements Launcher {
  readonly jobs: { name: string; sight: JobSight }[] = [];
  readonly canceled: string[] = [];
  isAway = false;
  /** What the next submission answers; the job exists after a lost answer if `isTaken`. */
  next: { readonly submission: Submission; readonly isTaken: boolean } | undefined;

  check = (): Promise<readonly string[]> => Promise.resolve([]);

  submit = ({ name }: Job): Promise<Submission> => {
    const { next } = this;
    this.next = undefined;
    if (next === undefined || next.isTaken) this.add(name);
    return Promise.resolve(next?.submission ?? { kind: 'SUBMITTED', externalId: this.lastId() });
  };

  look = (names: readonly string[]) =>
    Promise.resolve(
      this.isAway
        ? ({ kind: 'UNANSWERED', reason: 'away' } as const)
        : ({
            kind: 'ANSWERED',
            jobs: new Map(
              names.flatMap((name) => {
                const sights = this.jobs.flatMap((job) => (job.name === name ? [job.sight] : []));
                return sights.length === 0 ? [] : [[name, sights] as const];
              }),
            ),
          } as const),
    );

  cancel = (_name: string, externalId: string): Promise<void> => {
    this.canceled.push(externalId);
    this.change(externalId, { phase: 'ENDED', schedulerState: 'CANCELLED' });
    return Promise.resolve();
  };

  add(name: string): void {
    const externalId = String(this.jobs.length + 1);
    const sight = { externalId, phase: 'WAITING', schedulerState: 'PENDING', reason: 'Priority', position: 2 } as const;
    this.jobs.push({ name, sight });
  }

  lastId(): string {
    return this.jobs.at(-1)?.sight.externalId ?? '';
  }

  change(externalId: string, changes: Partial<JobSight>): void {
    for (const job of this.jobs)
      if (job.sight.externalId === externalId) job.sight = { ...job.sight, position: null, reason: null, ...changes };
  }

  forget(): void {
    this.jobs.length = 0;
  }
}

function newRounds(): Rounds {
  return createRounds({
    registry: createPlacementRegistry({ url: server.url, key, launcher: 'test', kinds: ['PRETRAINING'], labels: [] }),
    launcher: cluster,
    logger: createLogger('silent', 'test'),
    jobsMax: 3,
    nowMs: () => nowMs,
  });
}

before(async () => {
  database = await openTestDatabase();
  server = await startTestServer(database);
  key = await newKey(server, { role: 'OPERATOR', actions: ['READ', 'LAUNCH'] });
});
after(async () => {
  await server.close();
  await database.close();
});
beforeEach(async () => {
  await database.db.run.updateMany({ data: { status: 'CANCELED' } });
  await database.db.placement.deleteMany();
  cluster = new Cluster();
  rounds = newRounds();
  nowMs += 1_000_000;
});

/** A round that begins this much later than the last one. */
async function round(laterMs = 30_000): Promise<void> {
  nowMs += laterMs;
  await rounds.next();
}

const queue = (): Promise<string> => makeRun(database);
const placementsOf = (runId: string) =>
  database.db.placement.findMany({ where: { runId }, orderBy: { number: 'asc' } });
async function stateOf(runId: string): Promise<string> {
  return (await placementsOf(runId)).map((each) => `${each.state} ${each.schedulerState ?? ''}`.trim()).join(', ');
}
const claim = async (runId: string) => {
  const [placement] = await placementsOf(runId);
  const claimed = await createLedger(database.db, database.transact).claim(
    RUN_KINDS,
    `${placement?.name}@node1`,
    null,
    { runId },
  );
  assert.ok(claimed !== undefined);
  return claimed.lease;
};

test('a waiting run becomes a job, the job is followed, and what it says is shown with the run', async () => {
  const runId = await queue();
  await round();
  assert.equal(await stateOf(runId), 'WAITING');
  await round();
  const answer = await server.ask('query($id: ID!) { run(id: $id) { placements { sentence use } } }', { id: runId });
  assert.equal(at(answer, 'data.run.placements.0.sentence'), 'waiting in test: Priority, position 2');
  cluster.change('1', { phase: 'RUNNING', schedulerState: 'RUNNING' });
  await claim(runId);
  await round();
  assert.equal(await stateOf(runId), 'RUNNING RUNNING');
});

test('no more jobs are open than allowed', async () => {
  for (let count = 0; count < 5; count += 1) await queue();
  await round();
  await round();
  assert.equal(cluster.jobs.length, 3);
});

describe('a submission whose answer was lost', () => {
  test('is found again by its name, and not made twice', async () => {
    const runId = await queue();
    cluster.next = { submission: { kind: 'LOST', reason: 'timed out' }, isTaken: true };
    await round();
    assert.equal(await stateOf(runId), 'SUBMITTING');
    await round();
    assert.equal(await stateOf(runId), 'WAITING PENDING');
    assert.equal(cluster.jobs.length, 1);
  });

  test('that never arrived is made again after several looks, also by the next process', async () => {
    const runId = await queue();
    cluster.next = { submission: { kind: 'LOST', reason: 'timed out' }, isTaken: false };
    await round();
    rounds = newRounds();
    for (let looks = 0; looks < 3; looks += 1) await round();
    assert.equal(await stateOf(runId), 'PLANNED');
    assert.equal(cluster.jobs.length, 0);
    await round();
    assert.equal(await stateOf(runId), 'WAITING');
    assert.equal(cluster.jobs.length, 1);
  });
});

test('a job that the scheduler refuses is told with its reason, and tried again after a minute', async () => {
  const runId = await queue();
  cluster.next = { submission: { kind: 'REFUSED', reason: 'invalid partition specified: gpu' }, isTaken: false };
  await round();
  const [placement] = await placementsOf(runId);
  assert.deepEqual([placement?.state, placement?.reason], ['PLANNED', 'invalid partition specified: gpu']);
  await round();
  assert.equal(cluster.jobs.length, 0);
  await round(60_000);
  assert.equal(await stateOf(runId), 'WAITING');
});

test('while the scheduler is away nothing is concluded and nothing submitted', async () => {
  const runId = await queue();
  await round();
  cluster.isAway = true;
  await queue();
  for (let looks = 0; looks < 5; looks += 1) await round(60_000);
  assert.equal(await stateOf(runId), 'WAITING');
  assert.equal(cluster.jobs.length, 1);
  cluster.isAway = false;
  await round();
  await round();
  assert.equal(cluster.jobs.length, 2);
});

test('while the registry is away the scheduler keeps its jobs', async () => {
  await queue();
  await round();
  const unreachable = createRounds({
    registry: createPlacementRegistry({
      url: 'http://127.0.0.1:1',
      key,
      launcher: 'test',
      kinds: ['PRETRAINING'],
      labels: [],
    }),
    launcher: cluster,
    logger: createLogger('silent', 'test'),
    jobsMax: 3,
  });
  await assert.rejects(unreachable.next(), RegistryError);
  assert.deepEqual(cluster.canceled, []);
});

test('a run that is cancelled while its job waits takes the job with it', async () => {
  const runId = await queue();
  await round();
  await server.ask('mutation($id: ID!) { cancelRun(id: $id) { userErrors { message } } }', { id: runId });
  await round();
  assert.deepEqual(cluster.canceled, ['1']);
  await round();
  assert.equal(await stateOf(runId), 'ENDED CANCELLED');
});

for (const end of ['TIMEOUT', 'NODE_FAIL', 'PREEMPTED', 'OUT_OF_MEMORY', 'CANCELLED']) {
  test(`after ${end} the run is placed again as soon as the registry has it back, and not before`, async () => {
    const runId = await queue();
    await round();
    cluster.change('1', { phase: 'RUNNING', schedulerState: 'RUNNING' });
    const lease = await claim(runId);
    await round();
    cluster.change('1', { phase: 'ENDED', schedulerState: end });
    await round();
    // The worker still holds its lease: what Slurm says is not the end of the run, nor of the job.
    assert.equal(await stateOf(runId), 'RUNNING RUNNING');
    await createLedger(database.db, database.transact).release(lease, 'The job came to its end.');
    await round();
    await round();
    assert.equal(await stateOf(runId), `ENDED ${end}, WAITING`);
    assert.equal((await placementsOf(runId))[1]?.attempt, 2);
  });
}

test('jobs that the scheduler has forgotten are unknown, then gone, and their runs are placed again', async () => {
  const runId = await queue();
  await round();
  cluster.forget();
  await round();
  assert.equal(await stateOf(runId), 'UNKNOWN');
  await round();
  await round();
  assert.equal(await stateOf(runId), 'ENDED VANISHED');
});

test('a key without the right to launch is told so', async () => {
  const registry = createPlacementRegistry({
    url: server.url,
    key: 'wrong',
    launcher: 'test',
    kinds: ['PRETRAINING'],
    labels: [],
  });
  await assert.rejects(registry.work(1), RegistryError);
});
