/**
 * Two servers on one database, which the first one reaches through a network that swallows everything for a while. Its
 * worker speaks to it alone.
 */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { createHeardWorkers, createLedger, type HeardWorkers, type RunLedger } from '../../src/modules/runs/index.ts';
import { createWorkerDesk, type WorkerDesk } from '../../src/modules/workers/index.ts';
import { isDatabaseFault } from '../../src/platform/database-fault.ts';
import { openArtifactStore, type ArtifactStore } from '../../src/platform/artifact-store/index.ts';
import { openDatabase, transactionsOf, type Database } from '../../src/platform/db.ts';
import { NO_CAPABILITIES } from '../../src/protocol/requirements.ts';
import { PROTOCOL_VERSION, type ClaimedRun } from '../../src/protocol/worker-calls.ts';
import { openTestDatabase, type TestDatabase } from '../support/database.ts';

import { eventually } from '../support/eventually.ts';
import { startTcpProxy, type TcpProxy } from '../support/tcp-proxy.ts';

interface Server {
  readonly id: string;
  readonly desk: WorkerDesk;
  readonly ledger: RunLedger;
  readonly heard: HeardWorkers;
  readonly db: Database;
}

let database: TestDatabase;
let proxy: TcpProxy;
/** Of the servers, which does not pass by itself. */
let nowMs = 0;
let folder = '';
let cutOff: Server;
let other: Server;

async function openServer(url: string, store: ArtifactStore): Promise<Server> {
  const db = openDatabase(url, { maxConnections: 3, silenceTimeoutMs: 10_000 });
  const transact = transactionsOf(db);
  const heard = createHeardWorkers(() => nowMs);
  const desk = await createWorkerDesk({
    ...{ db, transact, heard, store, programVersion: 'test' },
    queue: { listen: () => Promise.resolve() },
  });
  return { id: randomUUID(), desk, ledger: createLedger(db, transact), heard, db };
}

const looks = ({ id, ledger, heard }: Server): Promise<number> => ledger.requeueExpired({ serverId: id, heard });

beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'paraffin-two-servers-'));
  const store = openArtifactStore(folder);
  database = await openTestDatabase();
  proxy = await startTcpProxy(() => Promise.resolve(Number(new URL(database.url).port)));
  const swallowing = new URL(database.url);
  swallowing.port = String(proxy.port);
  nowMs = 0;
  [cutOff, other] = [await openServer(swallowing.href, store), await openServer(database.url, store)];
  for (const server of [cutOff, other]) assert.equal(await looks(server), 0);
  // Both have been there for long.
  await pass(60);
  for (const server of [cutOff, other]) await see(server, 0);
});
afterEach(async () => {
  for (const { desk, db } of [cutOff, other]) {
    desk.close();
    await db.$disconnect();
  }
  await proxy.close();
  await database.close();
  await rm(folder, { recursive: true, force: true });
});

/** So much time passes in the database, and here. */
async function pass(seconds: number): Promise<void> {
  nowMs += seconds * 1000;
  await database.db.$executeRaw`
    UPDATE "Server" SET "seenAt" = "seenAt" - make_interval(secs => ${seconds}), "presentSince" = "presentSince" - make_interval(secs => ${seconds})`;
  await database.db.$executeRaw`
    UPDATE "Run" SET "leaseExpiresAt" = "leaseExpiresAt" - make_interval(secs => ${seconds}) WHERE "leaseExpiresAt" IS NOT NULL`;
}

/** The server was last seen so long ago, and was there without a gap until then. */
async function see({ id }: Server, secondsAgo: number): Promise<void> {
  await database.db
    .$executeRaw`UPDATE "Server" SET "seenAt" = now() - make_interval(secs => ${secondsAgo}) WHERE id = ${id}`;
}

async function claimAt({ desk }: Server): Promise<ClaimedRun> {
  const { id } = await database.db.run.create({ data: { kind: 'IMPORT', title: 'made by a test', config: {} } });
  const claim = {
    ...{ protocolVersion: PROTOCOL_VERSION, programVersion: '0', workerName: 'w', kinds: ['IMPORT'], deviceId: null },
    ...{ runId: id, waitSeconds: 0, capabilities: NO_CAPABILITIES },
  };
  const claimed = await desk.claim(claim, new AbortController().signal);
  assert.ok(claimed !== null && !('plan' in claimed));
  await desk.leaseOfToken(claimed.token);
  return claimed;
}

async function stateOf({ run }: ClaimedRun): Promise<{ status: string; isHeld: boolean }> {
  const { status, leaseExpiresAt } = await database.db.run.findUniqueOrThrow({ where: { id: run.id } });
  return { status, isHeld: leaseExpiresAt !== null && leaseExpiresAt > new Date() };
}

/** Looks, while these servers are there, until it takes the worker for dead. */
async function untilTakenBack(claimed: ClaimedRun, present: readonly Server[], looking = other): Promise<void> {
  await eventually(
    'the run to be taken back',
    async () => {
      for (const server of present) await see(server, 0);
      await looks(looking);
      return (await stateOf(claimed)).status === 'QUEUED' ? true : undefined;
    },
    60_000,
  );
}

/** A call of the worker arrives at the server, whose database does not answer. */
const callInVain = ({ desk }: Server, { token }: ClaimedRun): Promise<void> =>
  assert.rejects(desk.leaseOfToken(token), (error) => isDatabaseFault(error));

describe('a worker that speaks to a server whose database is out of reach', () => {
  test('is not taken for dead by another server, and has its lease again as soon as its server is back', async () => {
    const claimed = await claimAt(cutOff);
    proxy.blackhole();
    await pass(40);
    await see(other, 1);
    await Promise.all([callInVain(cutOff, claimed), assert.rejects(looks(cutOff))]);
    assert.equal(await looks(other), 0);
    assert.deepEqual(await stateOf(claimed), { status: 'RUNNING', isHeld: false });

    proxy.restore();
    await looks(cutOff);
    assert.deepEqual(await stateOf(claimed), { status: 'RUNNING', isHeld: true }, 'its server hears it');
    assert.equal(await looks(other), 0);
    assert.deepEqual(await cutOff.desk.calls(claimed.lease).renew({ busySeconds: 1 }), {
      status: 'RUNNING',
      busySeconds: 1,
    });
    assert.equal((await database.db.run.findUniqueOrThrow({ where: { id: claimed.run.id } })).attempt, 1);
  });

  test('is taken for dead after two minutes, when its server may be dead as well', async () => {
    const claimed = await claimAt(cutOff);
    proxy.blackhole();
    await pass(60);
    assert.equal(await looks(other), 0);
    await pass(61);
    await untilTakenBack(claimed, [other]);
  });

  test('has the length of a lease to be heard by its server that comes back', async () => {
    const claimed = await claimAt(cutOff);
    await pass(40);
    await see(other, 1);
    // Started again: it has heard nobody yet, and does not look itself for as long.
    await database.db.$executeRaw`UPDATE "Server" SET "seenAt" = now(), "presentSince" = now() WHERE id = ${cutOff.id}`;
    assert.equal(await looks(other), 0);
    assert.equal((await stateOf(claimed)).status, 'RUNNING');
    await pass(21);
    await untilTakenBack(claimed, [cutOff, other]);
  });
});

describe('a dead worker', () => {
  test('is noticed at once while both servers are there, and when one was stopped cleanly', async () => {
    const first = await claimAt(cutOff);
    await pass(21);
    await untilTakenBack(first, [cutOff, other]);

    await cutOff.ledger.signOff(cutOff.id);
    const second = await claimAt(other);
    await pass(21);
    await untilTakenBack(second, [other]);
  });

  test('is not kept alive by an earlier holder of its run, which still calls another server', async () => {
    const earlier = await claimAt(cutOff);
    await other.ledger.release(earlier.lease, 'Taken from it.');
    const later = await other.desk.claim(
      {
        ...{ protocolVersion: PROTOCOL_VERSION, programVersion: '0', workerName: 'w2', kinds: ['IMPORT'] },
        ...{ deviceId: null, runId: earlier.run.id, waitSeconds: 0, capabilities: NO_CAPABILITIES },
      },
      new AbortController().signal,
    );
    assert.ok(later !== null && !('plan' in later));
    await pass(21);
    await assert.rejects(cutOff.desk.leaseOfToken(earlier.token), { code: 'LEASE_LOST' });
    await untilTakenBack(later, [cutOff, other], cutOff);
  });
});

test('a clock of the database that was set back keeps nobody waiting', async () => {
  const claimed = await claimAt(other);
  await database.db.$executeRaw`
    UPDATE "Server" SET "seenAt" = now() + interval '1 hour', "presentSince" = now() + interval '1 hour'`;
  await pass(21);
  await untilTakenBack(claimed, []);
});
