/** Trainings while everything that carries them is broken at random moments; then every promise is checked. */
import { mkdtemp, rm } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import type { RegistryClient } from '../src/cli/demo/client.ts';
import { drawTissue } from '../src/cli/tissue.ts';
import { checkArtifacts } from '../src/modules/artifacts/index.ts';
import { openArtifactStore } from '../src/platform/artifact-store.ts';
import { openDatabase } from '../src/platform/db.ts';
import { isAlive } from '../test/support/processes.ts';
import { FAULTS, temporaryFiles, type Fault, type FaultName } from './faults.ts';
import type { ChaosPromise, ChaosReport } from './report.ts';
import { openStage, type Stage } from './stage.ts';

const STEPS = 12;
const KEEP_EVERY = 3;
/** Of a run that is taken back: the lease, the next look, TensorFlow and a database that recovers. */
const SETTLE_MS = 240_000;
const CANCEL_MS = 10_000;

export interface Wanted {
  readonly seed: number;
  readonly trainingCount: number;
  /** No fault begins later. */
  readonly deadlineMs: number;
}

/** A small generator with a seed (mulberry32): the same faults in the same order. */
function createDice(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}

export async function runTrainings({ seed, trainingCount, deadlineMs }: Wanted): Promise<ChaosReport> {
  const startedMs = performance.now();
  const folder = await mkdtemp(path.join(tmpdir(), 'paraffin-chaos-'));
  const dice = createDice(seed);
  const faults: Partial<Record<FaultName, number>> = {};
  let stage: Stage | undefined;
  const say = (text: string): void => void process.stderr.write(`${((performance.now() - startedMs) / 1000).toFixed(0).padStart(4)} s  ${text}\n`);
  try {
    await drawTissue({ outDir: path.join(folder, 'imports', 'images'), imagesPerLabel: 4, imageSizePx: 40, seed, groups: 2 });
    stage = await openStage(folder);
    const versionId = await importImages(stage, path.join(folder, 'imports', 'images'));
    // The first is left alone: what all the others must come to, bit by bit.
    const ids = [await launch(stage.client(), versionId)];
    await untilEnded(stage, ids, deadlineMs / 2);
    say('one training went through undisturbed');
    const promises = [await cancelTwice(stage, versionId)];
    for (let index = 0; index < trainingCount; index += 1) ids.push(await launch(stage.client(), versionId));

    const endMs = startedMs + deadlineMs;
    for (const name of order(dice)) {
      if (performance.now() > endMs) break;
      await sleep(2_000 + 8_000 * dice());
      if (await allEnded(stage.client(), ids).catch(() => false)) break;
      await stage.look();
      const fault: Fault = FAULTS[name];
      if (!(await fault(stage, dice, ids))) continue;
      faults[name] = (faults[name] ?? 0) + 1;
      say(name);
    }
    await untilEnded(stage, ids, SETTLE_MS).catch(() => undefined);
    await stage.look();
    promises.push(...(await check(stage, ids)));
    await stage.close();
    const { seenPids, seenPorts } = stage;
    stage = undefined;
    promises.push(await nothingLeft(seenPids, seenPorts));
    return { seed, trainingCount, durationSeconds: (performance.now() - startedMs) / 1000, faults, promises };
  } finally {
    await stage?.close();
    await rm(folder, { recursive: true, force: true });
  }
}

/** Every fault once before any of them comes again, each round in another order. */
function* order(dice: () => number): Generator<FaultName> {
  const names: readonly FaultName[] = ['kill child', 'kill agent', 'kill server', 'kill PostgreSQL', 'freeze agent', 'cut network', 'fill disk', 'deliver twice'];
  for (;;) {
    const left = [...names];
    while (left.length > 0) yield* left.splice(Math.floor(dice() * left.length), 1);
  }
}

async function importImages(stage: Stage, images: string): Promise<string> {
  const client = stage.client();
  const made = z.object({ createDataset: z.object({ dataset: z.object({ id: z.string() }) }) });
  const { createDataset } = await client.request(made, 'mutation { createDataset(input: { name: "Chaos", imageKind: PATCH, synthetic: true, organs: [], stains: ["HE"], tasks: [CLASSIFICATION] }) { dataset { id } } }');
  const launched = z.object({ importDatasetVersion: z.object({ run: z.object({ id: z.string() }) }) });
  const { importDatasetVersion } = await client.request(launched, 'mutation ($input: ImportDatasetVersionInput!) { importDatasetVersion(input: $input) { run { id } } }', {
    input: { datasetId: createDataset.dataset.id, path: images, layout: 'FOLDER_PER_LABEL', idempotencyKey: 'chaos import' },
  });
  await untilEnded(stage, [importDatasetVersion.run.id], 60_000);
  const version = z.object({ run: z.object({ datasetVersion: z.object({ id: z.string() }) }) });
  return (await client.request(version, 'query ($id: ID!) { run(id: $id) { datasetVersion { id } } }', { id: importDatasetVersion.run.id })).run.datasetVersion.id;
}

async function launch(client: RegistryClient, versionId: string): Promise<string> {
  const launched = z.object({ launchPretraining: z.object({ run: z.object({ id: z.string() }) }) });
  const input = { modelSlug: 'chaos', datasets: [{ datasetVersionId: versionId }], encoder: 'RESNET18', imageSizePx: 32, batchSize: 2, steps: STEPS, checkpointEverySteps: KEEP_EVERY, seed: 1 };
  return (await client.request(launched, 'mutation ($input: LaunchPretrainingInput!) { launchPretraining(input: $input) { run { id } } }', { input })).launchPretraining.run.id;
}

async function cancelTwice(stage: Stage, versionId: string): Promise<ChaosPromise> {
  const id = await launch(stage.client(), versionId);
  await until(async () => (await statusOf(stage.client(), id)) !== 'QUEUED', 60_000);
  const startMs = performance.now();
  const cancel = (): Promise<unknown> => stage.client().request(z.unknown(), 'mutation ($id: ID!) { cancelRun(id: $id) { run { status } } }', { id });
  await Promise.all([cancel(), cancel()]);
  const isCanceled = async (): Promise<boolean> => (await statusOf(stage.client(), id)) === 'CANCELED';
  await until(isCanceled, 2 * CANCEL_MS).catch(() => undefined);
  const tookMs = performance.now() - startMs;
  const status = await statusOf(stage.client(), id);
  const held = status === 'CANCELED' && tookMs <= CANCEL_MS;
  await until(async () => (await stage.childPid()) === undefined, 30_000).catch(() => undefined);
  return { promise: 'a cancel during start, sent twice', held, seen: `${status} after ${(tookMs / 1000).toFixed(1)} s` };
}

const ENDED = ['SUCCEEDED', 'FAILED', 'CANCELED'];

async function statusOf(client: RegistryClient, id: string): Promise<string> {
  return (await client.request(z.object({ run: z.object({ status: z.string() }) }), 'query ($id: ID!) { run(id: $id) { status } }', { id })).run.status;
}

async function allEnded(client: RegistryClient, ids: readonly string[]): Promise<boolean> {
  for (const id of ids) if (!ENDED.includes(await statusOf(client, id))) return false;
  return true;
}

async function untilEnded(stage: Stage, ids: readonly string[], deadlineMs: number): Promise<void> {
  await until(() => allEnded(stage.client(), ids).catch(() => false), deadlineMs);
}

async function until(isSo: () => Promise<boolean>, deadlineMs: number): Promise<void> {
  const endMs = performance.now() + deadlineMs;
  while (!(await isSo())) {
    if (performance.now() > endMs) throw new Error(`Waited ${deadlineMs} ms for something that did not come.`);
    await sleep(300);
  }
}

/** Looks at database and artifacts themselves, not at what the server says of them. */
async function check(stage: Stage, ids: readonly string[]): Promise<ChaosPromise[]> {
  const db = openDatabase(await stage.databaseUrl());
  try {
    const where = { id: { in: [...ids] } };
    const runs = await db.run.findMany({ where, include: { events: { orderBy: { sequence: 'asc' } }, metricChunks: { where: { name: 'loss' }, orderBy: { firstStep: 'asc' } }, checkpoints: true, trainingStates: true } });
    const stuck = runs.filter((run) => !ENDED.includes(run.status));
    const unwell = runs.filter((run) => run.status !== 'SUCCEEDED');
    const twice = runs.filter((run) => run.checkpoints.length > 1 || (run.status === 'SUCCEEDED' && run.checkpoints.length !== 1));
    const digests = new Set(runs.flatMap((run) => run.checkpoints.map(({ sha256 }) => sha256)));
    const losses = runs.filter((run) => run.status === 'SUCCEEDED').map((run) => JSON.stringify(run.metricChunks.flatMap((chunk) => chunk.steps.map((step, index) => [step, chunk.values[index]]))));
    const holes = runs.filter((run) => run.events.some((event, index) => event.sequence !== index + 1));
    const attempts = runs.reduce((sum, run) => sum + run.attempt, 0);
    const fsck = await checkArtifacts({ db, store: openArtifactStore(path.join(stage.folder, 'artifacts')), onProgress: () => undefined });
    // A run has ended a moment before its folder is gone. Half-written artifacts stay for an hour, in case somebody is still at them.
    const workFolders = async (): Promise<string[]> => (await temporaryFiles(stage.folder)).filter((name) => /^[0-9a-f-]{36}-\d+$/.test(name));
    await until(async () => (await workFolders()).length === 0, 15_000).catch(() => undefined);
    const left = await workFolders();
    return [
      { promise: 'no run is stuck', held: stuck.length === 0, seen: `${runs.length - stuck.length} of ${runs.length} ended, in ${attempts} attempts` },
      { promise: 'every run came through', held: unwell.length === 0, seen: unwell.length === 0 ? `${runs.length} SUCCEEDED` : unwell.map((run) => `${run.status} ${run.failureCode ?? ''}`).join(', ') },
      { promise: 'one checkpoint for each run', held: twice.length === 0, seen: `${runs.reduce((sum, run) => sum + run.checkpoints.length, 0)} checkpoints of ${runs.length} runs` },
      { promise: 'the same weights, bit by bit', held: digests.size === 1, seen: `${digests.size} different sha256` },
      { promise: 'the same losses, each step once', held: new Set(losses).size === 1, seen: `${new Set(losses).size} different series` },
      { promise: 'events without a hole', held: holes.length === 0, seen: `${runs.reduce((sum, run) => sum + run.events.length, 0)} events` },
      { promise: 'every artifact is what its digest says', held: fsck.damaged.length === 0, seen: `${fsck.checked.count} read again, ${fsck.damaged.length} damaged` },
      { promise: 'no work folder is left', held: left.length === 0, seen: `${left.length} left` },
    ];
  } finally {
    await db.$disconnect();
  }
}

async function nothingLeft(pids: ReadonlySet<number>, ports: ReadonlySet<number>): Promise<ChaosPromise> {
  const alive = (await Promise.all([...pids].map(async (pid) => ((await isAlive(pid)) ? [pid] : [])))).flat();
  const open = (await Promise.all([...ports].map(async (port) => ((await isOpen(port)) ? [port] : [])))).flat();
  return { promise: 'no process and no port is left', held: alive.length + open.length === 0, seen: `${pids.size} processes and ${ports.size} ports were seen, ${alive.length} and ${open.length} are left` };
}

function isOpen(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}
