/**
 * Imports of slides that several workers share: real slides in OpenSlide's processes, a real database, the door of the
 * workers, and workers in processes of their own.
 */
import assert from 'node:assert/strict';
import { mkdir, mkdtemp, utimes } from 'node:fs/promises';
import path from 'node:path';
import { after, afterEach, before, describe, test } from 'node:test';
import { createLogger } from '../../src/logger.ts';
import { createRunLoaders } from '../../src/modules/runs/index.ts';
import type { PartOutcome } from '../../src/protocol/part-calls.ts';
import { NO_CAPABILITIES, type WorkerCapabilities } from '../../src/protocol/requirements.ts';
import { SLIDE_OPTION_DEFAULTS } from '../../src/protocol/slide-options.ts';
import { PROTOCOL_VERSION, type ClaimedPart } from '../../src/protocol/worker-calls.ts';
import { createHttpArtifacts } from '../../workers/registry/artifacts.ts';
import { createPartRegistry, createRunRegistry, createWorkerRegistry } from '../../workers/registry/http.ts';
import { importTask } from '../../workers/tasks/import-dataset.ts';
import { readImportPart } from '../../workers/tasks/import-part.ts';
import { TaskStopped, type StopRequest, type Task } from '../../workers/tasks/task.ts';
import { openTestDatabase, type TestDatabase } from '../support/database.ts';
import { eventually } from '../support/eventually.ts';
import { startTestWorker, type TestWorker } from '../support/processes.ts';
import { aperioDescription, drawSlide, type Rgb } from '../support/slide-files.ts';
import { createTaskRunner, type LaunchedTask, type TaskRunner } from '../support/task-runner.ts';
import { openWorkerDoor, type WorkerDoor } from '../support/worker-door.ts';

const SLIDES = 6;
const [WIDTH, HEIGHT] = [1100, 900];
const GLASS: Rgb = [242, 242, 242];
/** Shards that end within slides. */
const task = importTask({ byteLimit: 1e9, imageLimit: 100 });
/** For processes of their own on two busy cores. */
const DEADLINE_MS = 240_000;

let base = '';
let folder = '';
let database: TestDatabase;
let runner: TaskRunner;
let door: WorkerDoor;
let alone: unknown;
let workers: TestWorker[] = [];

before(async () => {
  database = await openTestDatabase();
  runner = await createTaskRunner(database);
  ({ base } = runner);
  door = await openWorkerDoor({ databaseUrl: database.url, dataDir: base });
  folder = path.join(base, 'slides');
  await mkdir(folder);
  for (let index = 0; index < SLIDES; index += 1)
    await drawSlide(path.join(folder, `S${index}.svs`), {
      ...{ width: WIDTH, height: HEIGHT, downsamples: [1, 4], compression: 'JPEG' },
      paint: (x, y) => {
        if (x >= 800) return GLASS;
        const isCell = (x % 23) ** 2 + (y % 29) ** 2 < 60 + x / 10;
        return isCell ? [100 + index * 12, 70, 140 + Math.floor(y / 30)] : [225, 150, 190];
      },
      description: aperioDescription(WIDTH, HEIGHT, 'AppMag = 20|MPP = 0.5'),
      ...(index === SLIDES - 1 ? { brokenTile: { index: 5 } } : {}),
    });
  const run = await launch(planning(async () => undefined));
  await run.execute();
  alone = await resultOf(run.runId);
});
afterEach(async () => {
  for (const worker of workers) worker.signal('SIGKILL');
  await Promise.all(workers.map(({ gone }) => gone));
  workers = [];
  // A test that failed leaves nothing that the next one could claim.
  await database.db.run.deleteMany({ where: { status: { in: ['QUEUED', 'RUNNING', 'CANCELING'] } } });
});
after(async () => {
  await door.close();
  await runner.close();
  await database.close();
});

async function launch(task: Task, stop?: () => StopRequest): Promise<LaunchedTask> {
  const slug = `shared-${await database.db.dataset.count()}`;
  const { id: datasetId } = await database.db.dataset.create({
    data: { slug, name: slug, imageKind: 'WSI', synthetic: true },
  });
  const config = {
    ...{ datasetId, path: folder, layout: 'SLIDES', labelsCsvPath: null, patchSizePx: 64, importRoots: [base] },
    slides: { ...SLIDE_OPTION_DEFAULTS, patchesPerSlideMax: null },
  };
  return runner.launch(task, config, stop);
}

/**
 * An import whose lease is renewed meanwhile.
 * @param hook called each time that its worker has planned the parts, before it takes any.
 * @param onShard called when the first shard is sealed.
 */
function planning(hook: () => Promise<void>, onShard: () => void = () => undefined): Task {
  return {
    kind: 'IMPORT',
    run: async (context, config) => {
      const { registry } = context;
      const planParts: typeof registry.planParts = async (input) => {
        const answer = await registry.planParts(input);
        await hook();
        return answer;
      };
      const keepImportBlock: typeof registry.keepImportBlock = (input) => {
        onShard();
        return registry.keepImportBlock(input);
      };
      const renewal = setInterval(() => void registry.renew({ busySeconds: 0 }).catch(() => undefined), 1_000);
      try {
        return await task.run({ ...context, registry: { ...registry, planParts, keepImportBlock } }, config);
      } finally {
        clearInterval(renewal);
      }
    },
  };
}

/** The version and the report, but ids and times. */
async function resultOf(runId: string): Promise<unknown> {
  const version = await database.db.datasetVersion.findFirstOrThrow({
    where: { importRunId: runId },
    include: {
      shards: { orderBy: { position: 'asc' } },
      thumbnails: { orderBy: { position: 'asc' } },
      slides: { orderBy: { position: 'asc' } },
    },
  });
  const { digest, manifestSha256, imageCount, labelCounts, issueListSha256, shards, thumbnails, slides } = version;
  assert.equal(slides.length, SLIDES);
  return {
    ...{ digest, manifestSha256, imageCount, labelCounts, issueListSha256 },
    shards: shards.map(({ sha256 }) => sha256),
    thumbnails: thumbnails.map(({ sha256 }) => sha256),
    slides: slides.map(({ path: file, patchCount, fileDigest }) => [file, patchCount, fileDigest]),
    report: await createRunLoaders(database.db).importReport.load(runId),
  };
}

async function finishesAsAlone(run: LaunchedTask): Promise<void> {
  await run.execute();
  assert.deepEqual(await resultOf(run.runId), alone);
  assert.equal(await database.db.runPart.count({ where: { runId: run.runId } }), 0, 'parts of a run that has ended');
}

const claimOf = (workerName: string, capabilities: WorkerCapabilities = NO_CAPABILITIES) => ({
  ...{ protocolVersion: PROTOCOL_VERSION, programVersion: '0', workerName, deviceId: null, runId: null },
  ...{ kinds: ['IMPORT' as const], waitSeconds: 0, capabilities },
});

async function claimPart(workerName: string, capabilities?: WorkerCapabilities): Promise<ClaimedPart | undefined> {
  const registry = createWorkerRegistry({ url: door.url, token: door.key });
  const claimed = await registry.claimAny(claimOf(workerName, capabilities), AbortSignal.timeout(60_000));
  if (claimed === undefined) return undefined;
  assert.ok('plan' in claimed, 'a run waits');
  return claimed;
}

async function partOf(workerName: string): Promise<ClaimedPart> {
  const claimed = await claimPart(workerName);
  assert.ok(claimed !== undefined, `no part for ${workerName}`);
  return claimed;
}

const callsOf = ({ lease, token }: ClaimedPart) => createPartRegistry({ url: door.url, token }, lease);

/** Over HTTP, with the token of the part. */
async function read({ run, plan, token }: ClaimedPart, config: object = {}): Promise<PartOutcome> {
  const workDir = await mkdtemp(path.join(base, 'part-'));
  const artifacts = createHttpArtifacts({
    ...{ door: { url: door.url, token }, runId: run.id, workDir, patience: {} },
  });
  const context = { artifacts, logger: createLogger('silent', 'test'), dataDir: base, workDir };
  assert.ok(typeof run.config === 'object');
  return readImportPart({ ...context, throwIfStopped: () => undefined }, { ...run.config, ...config }, plan);
}

async function readNext(workerName: string): Promise<ClaimedPart> {
  const part = await partOf(workerName);
  await callsOf(part).settle({ outcome: await read(part) });
  return part;
}

async function storedAs(sha256: string | null) {
  const stored = await database.db.artifact.findUniqueOrThrow({ where: { sha256: sha256 ?? '' } });
  return { sha256: stored.sha256, byteSize: Number(stored.byteSize) };
}

const rowsOf = (runId: string) => database.db.runPart.findMany({ where: { runId }, orderBy: { number: 'asc' } });

async function workerNamed(name: string): Promise<TestWorker> {
  const worker = await startTestWorker({ databaseUrl: database.url, dataDir: base, name });
  workers.push(worker);
  return worker;
}

describe('an import of slides', () => {
  test('gives the same version, shards and report with one worker as with three', async () => {
    const run = await launch(
      planning(async () => {
        await workerNamed('b');
        await workerNamed('c');
        await eventually(
          'both other workers to have read slides, and one or two to be left',
          async () => {
            const settled = (await rowsOf(run.runId)).filter(({ factsSha256 }) => factsSha256 !== null);
            return new Set(settled.map(({ workerName }) => workerName)).size === 2 && settled.length >= 3;
          },
          DEADLINE_MS,
        );
      }),
    );
    await finishesAsAlone(run);
    assert.match(
      run.events.join('\n'),
      /18 of 18 batches of patches; slides read by other workers: \d by [bc], \d by [bc]\./,
    );
  });

  test('goes on if another worker is killed with SIGKILL at a slide, which is then read by the worker of the run', async () => {
    let taken: number | undefined;
    const run = await launch(
      planning(async () => {
        const worker = await workerNamed('b');
        taken = await eventually(
          'the worker to have a slide',
          async () => (await rowsOf(run.runId)).find(({ leaseTokenDigest }) => leaseTokenDigest !== null)?.number,
          DEADLINE_MS,
        );
        worker.signal('SIGKILL');
        await worker.gone;
        // As it does 20 seconds later.
        await database.db.runPart.updateMany({
          where: { runId: run.runId, leaseTokenDigest: { not: null } },
          data: { leaseExpiresAt: new Date(0) },
        });
      }),
    );
    await finishesAsAlone(run);
    assert.ok(taken !== undefined);
  });

  test('whose worker dies is continued by another one with the slides that were read meanwhile', async () => {
    let late: ClaimedPart | undefined;
    const run = await launch(
      planning(
        async () => {
          await readNext('b');
          late = await partOf('b');
        },
        () => {
          throw new Error('interrupted');
        },
      ),
    );
    // It waits for no slide of the other worker: that of the first shard has been read.
    await assert.rejects(run.execute(), /interrupted/);
    await database.db.run.update({ where: { id: run.runId }, data: { status: 'QUEUED' } });
    assert.ok(late !== undefined);
    // No new parts while nobody assembles them, and those that are under way go on.
    await callsOf(late).renew({});
    await callsOf(late).settle({ outcome: await read(late) });

    const before = await rowsOf(run.runId);
    const again = await runner.claim(
      planning(async () => {
        const rows = await rowsOf(run.runId);
        assert.deepEqual(
          rows.map(({ factsSha256 }) => factsSha256),
          before.map(({ factsSha256 }) => factsSha256),
        );
        assert.equal(rows.filter(({ factsSha256 }) => factsSha256 !== null).length, 2);
      }),
      run.runId,
    );
    await finishesAsAlone(again);
    assert.match(again.events.join('\n'), /slides read by other workers: 2 by b\./);
  });

  test('that is cancelled ends its parts', async () => {
    let part: ClaimedPart | undefined;
    let stop: StopRequest = 'NO';
    const run = await launch(
      planning(async () => {
        part = await partOf('b');
        await database.db.run.update({ where: { id: run.runId }, data: { status: 'CANCELING' } });
        await assert.rejects(callsOf(part).renew({}), { code: 'LEASE_LOST' });
        assert.equal(await claimPart('c'), undefined);
        stop = 'CANCEL';
      }),
      () => stop,
    );
    await assert.rejects(run.execute(), TaskStopped);
    assert.ok(part !== undefined);
    await runner.ledger.cancelNow({ runId: run.runId, epoch: 1 });
    await assert.rejects(callsOf(part).giveBack({ reason: null }), { code: 'LEASE_LOST' });
    assert.equal(await database.db.runPart.count({ where: { runId: run.runId } }), 0);
  });

  test('is not read by a worker without its folder, or with other files in it', async () => {
    const run = await launch(
      planning(async () => {
        const blind = await partOf('blind');
        const refused = await read(blind, { path: path.join(base, 'nowhere') }).catch((error: Error) => error);
        assert.ok(refused instanceof Error && 'code' in refused, 'a slide was read without its folder');
        assert.match(String(refused.code), /^IMPORT_PATH/);
        await callsOf(blind).giveBack({ reason: refused.message });
        assert.equal(await claimPart('blind'), undefined, 'a worker that cannot see the folder is asked once');

        const other = await partOf('other');
        assert.equal(other.lease.part, blind.lease.part);
        const file = path.join(folder, `S${other.lease.part}.svs`);
        const then = new Date('2020-01-01T00:00:00Z');
        const now = new Date('2021-01-01T00:00:00Z');
        await utimes(file, then, then);
        await assert.rejects(read(other), { code: 'CONFLICT', message: /another size or time/ });
        await utimes(file, now, now);
        await callsOf(other).giveBack({ reason: null });
        assert.ok((await claimPart('other')) !== undefined, 'one that gave no reason is asked again');
        // Its worker is silent from now on.
        await database.db.runPart.updateMany({
          where: { runId: run.runId, leaseTokenDigest: { not: null } },
          data: { leaseExpiresAt: new Date(0) },
        });
      }),
    );
    await finishesAsAlone(run);
    assert.match(run.events.join('\n'), /blind did not read S0\.svs\. /);
  });

  test('is shared with workers that have what the run needs, and with nobody twice at once', async () => {
    const run = await launch(
      planning(async () => {
        const labels = ['slides-mounted'];
        await database.db.run.update({ where: { id: run.runId }, data: { requirements: { labels } } });
        assert.equal(await claimPart('b'), undefined);
        const parts = [];
        for (let index = 0; index < SLIDES; index += 1)
          parts.push(await claimPart(`w${index}`, { ...NO_CAPABILITIES, labels }));
        assert.deepEqual(
          parts.map((part) => part?.lease.part),
          [0, 1, 2, 3, 4, 5],
        );
        assert.equal(await claimPart('late', { ...NO_CAPABILITIES, labels }), undefined);
        for (const part of parts) if (part !== undefined) await callsOf(part).giveBack({ reason: null });
      }),
    );
    await finishesAsAlone(run);
  });
});

describe('the token of a part', () => {
  test('opens its part alone, until another worker has it', async () => {
    const run = await launch(
      planning(async () => {
        const [one, other] = [await partOf('b'), await partOf('c')];
        const asOther = createPartRegistry({ url: door.url, token: one.token }, other.lease);
        await assert.rejects(asOther.renew({}), { code: 'FORBIDDEN' });
        const asRun = createRunRegistry({ url: door.url, token: one.token }, run.runId);
        await assert.rejects(asRun.cancel({}), { code: 'FORBIDDEN' });
        await assert.rejects(asRun.importBlocks({}), { code: 'FORBIDDEN' });
        const forged = createPartRegistry({ url: door.url, token: `${one.token.slice(0, -3)}AAA` }, one.lease);
        await assert.rejects(forged.renew({}), { code: 'LEASE_LOST' });
        assert.deepEqual(await callsOf(one).renew({}), { leaseSeconds: 20 });

        await database.db.runPart.updateMany({
          where: { runId: run.runId, number: one.lease.part },
          data: { leaseExpiresAt: new Date(0) },
        });
        const later = await partOf('d');
        assert.deepEqual(later.lease, { ...one.lease, partEpoch: 2 });
        await assert.rejects(callsOf(one).renew({}), { code: 'LEASE_LOST' });
        await assert.rejects(callsOf(one).settle({ outcome: await read(later) }), { code: 'LEASE_LOST' });
        for (const part of [later, other]) await callsOf(part).giveBack({ reason: null });
      }),
    );
    await finishesAsAlone(run);
  });
});

describe('an outcome', () => {
  test('that names bytes that are not stored, or have another size, is refused; one that is of no such slide is not used', async () => {
    const run = await launch(
      planning(async () => {
        const part = await partOf('liar 0');
        const own = await read(part);
        const missing = { ...own, facts: { sha256: '0'.repeat(64), byteSize: 10 } };
        await assert.rejects(callsOf(part).settle({ outcome: missing }), { code: 'ARTIFACT_NOT_FOUND' });
        const longer = { ...own, facts: { ...own.facts, byteSize: own.facts.byteSize + 1 } };
        await assert.rejects(callsOf(part).settle({ outcome: longer }), { code: 'OUTCOME_INVALID' });
        const none = { ...own, facts: { ...own.facts, sha256: 'none' } };
        await assert.rejects(callsOf(part).settle({ outcome: none }), { code: 'BAD_INPUT' });

        const honest = await readNext('honest');
        assert.equal(honest.lease.part, 1);
        const settled = (await rowsOf(run.runId))[1];
        assert.ok(settled !== undefined);
        const { factsSha256, patchesSha256 } = settled;
        const other = { facts: await storedAs(factsSha256), patches: await storedAs(patchesSha256) };
        await callsOf(part).settle({ outcome: other });
        const third = await partOf('liar 2');
        await callsOf(third).settle({ outcome: { ...(await read(third)), patches: other.patches } });
        const fourth = await partOf('liar 3');
        await callsOf(fourth).settle({ outcome: { ...(await read(fourth)), patches: null } });
        await callsOf(await partOf('liar 4')).settle({ outcome: { ...other, facts: other.patches } });
        // A region of the last slide is unreadable, here as there.
        await readNext('honest');
      }),
    );
    await finishesAsAlone(run);
    for (const number of [0, 2, 3, 4])
      assert.match(run.events.join('\n'), new RegExp(`What liar ${number} read of S${number}\\.svs is not used\\. `));
    assert.match(
      run.events.join('\n'),
      /What honest read of S5\.svs is not used\. Some of it could not be read there\./,
    );
    assert.match(run.events.join('\n'), /slides read by other workers: 1 by honest\./);
  });
});
