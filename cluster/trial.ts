/** Trainings and evaluations through a real Slurm while its parts fail, and then a check of every promise. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { z } from 'zod';
import { connectToRegistry, type RegistryClient } from '../src/cli/demo/client.ts';
import { openDatabase, type Database } from '../src/platform/db.ts';
import { findRunningPostgres } from '../src/platform/postgres.ts';
import { drawTissue } from '../src/synthetic/tissue.ts';
import { outcomeOf } from '../chaos/checks.ts';
import type { ChaosPromise } from '../chaos/report.ts';
import { importImages, launchEvaluation, launchTraining, type SmallTraining } from '../chaos/small-trainings.ts';
import { createWaiting, type Waiting } from '../chaos/waiting.ts';
import { startTcpProxy } from '../test/support/tcp-proxy.ts';
import type { FaultFelt, TrialReport } from './report.ts';
import { CONTROLLER_ADDRESS, startSlurm, type NodeName, type SlurmCluster } from './slurm.ts';

const PARAFFIN = path.resolve(import.meta.dirname, '../src/cli/main.ts');
const STEPS = 120;
const KEEP_EVERY = 15;
const PEOPLE = ['Ada', 'Grace', 'Mary'];
/** Of this many runs one is an evaluation of what the undisturbed training made. */
const EVALUATION_EVERY = 4;
/** Within this time something must happen to some run: TensorFlow loads, leases expire, Slurm notices a lost node. */
const STUCK_MS = 600_000;
const CUT_MS = 30_000;

export interface TrialOptions {
  /** Trainings and evaluations. */
  readonly runCount: number;
  readonly deadlineMs: number;
  readonly signal: AbortSignal;
  readonly onProgress: (text: string) => void;
}

interface Trial {
  readonly slurm: SlurmCluster;
  readonly db: Database;
  readonly client: RegistryClient;
  readonly waiting: Waiting;
  /** While this file exists, the answer to the next sbatch is lost. */
  readonly loseAnswerFile: string;
}

/** A job of ours whose worker holds its run. */
interface RunningJob {
  readonly id: string;
  readonly name: string;
  readonly runId: string;
  readonly node: NodeName;
  readonly attempt: number;
  readonly progress: number;
}

type Fault = (trial: Trial, job: RunningJob) => Promise<void>;

const FAULTS: Readonly<Record<string, Fault>> = {
  'job cancelled behind our back': async ({ slurm }, job) => {
    await slurm.run('scancel', job.id);
  },
  'controller killed for 20 s': async ({ slurm, waiting }) => {
    await slurm.killController();
    await waiting.pause(20_000);
    await slurm.startController();
  },
  'time limit': async ({ slurm }, job) => {
    // Such as 1:05 or 1:02:03.
    const used = (await slurm.run('squeue', '--noheader', `--jobs=${job.id}`, '--Format=TimeUsed:20')).trim();
    const elapsedSeconds = used.split(':').reduce((sum, part) => sum * 60 + Number(part), 0);
    await slurm.run('scontrol', 'update', `JobId=${job.id}`, `TimeLimit=${Math.ceil((elapsedSeconds + 35) / 60)}`);
  },
  'node killed': async ({ slurm, waiting }, job) => {
    await slurm.killNode(job.node);
    await waiting.pause(5_000);
    await slurm.startNode(job.node);
  },
  'preempted by an urgent job': async ({ slurm }, job) => {
    await slurm.run('sbatch', '--partition=urgent', `--nodelist=${job.node}`, '--output=/dev/null', '--wrap=sleep 10');
  },
  [`network of the node cut for ${CUT_MS / 1000} s, longer than a lease`]: async ({ slurm, waiting }, job) => {
    await slurm.setNetwork(job.node, 'down');
    await waiting.pause(CUT_MS);
    await slurm.setNetwork(job.node, 'up');
  },
};
const LOST_ANSWER = 'answer to sbatch lost';
export const FAULT_NAMES: readonly string[] = [LOST_ANSWER, ...Object.keys(FAULTS)];

export async function runTrial(options: TrialOptions): Promise<TrialReport> {
  const { runCount, deadlineMs, signal } = options;
  const loadBefore = os.loadavg();
  const startedAt = new Date();
  const startedMs = performance.now();
  const report = (text: string): void =>
    options.onProgress(`${((performance.now() - startedMs) / 1000).toFixed(0).padStart(4)} s  ${text}`);
  const folder = await mkdtemp(path.join(os.tmpdir(), 'paraffin-cluster-'));
  const home = path.join(folder, 'registry');
  const waiting = createWaiting(signal);
  const closers: (() => Promise<unknown>)[] = [];
  try {
    // The nodes see neither the registry's folder, with its database and artifacts, nor each other's.
    const nodeFolder = path.join(folder, 'node');
    const slurm = await startSlurm(path.join(folder, 'slurm'), { hidden: home, own: nodeFolder });
    closers.push(slurm.stop);
    await waiting.until(
      'two idle nodes',
      async () =>
        (await slurm.run('sinfo', '--noheader', '--Node', '--partition=gpu', '--format=%T')).match(/idle/g)?.length ===
        2,
      60_000,
    );
    report(`${(await slurm.run('squeue', '--version')).trim()} has two nodes`);
    await drawTissue({
      outDir: path.join(home, 'imports', 'images'),
      imagesPerLabel: 8,
      imageSizePx: 40,
      seed: 1,
      groups: 4,
    });
    const server = await startProgram(
      ['serve'],
      {
        PARAFFIN_DATA_DIR: home,
        PARAFFIN_PORT: '0',
        PARAFFIN_WORKER_KINDS: 'import,export',
        PARAFFIN_LOG_LEVEL: 'error',
      },
      slurm,
    );
    closers.push(server.stop);
    const url = await addressOf(server.lines);
    const key = (await readFile(path.join(home, 'admin-key'), 'utf8')).trim();
    const client = connectToRegistry(url, key);
    const databaseUrl = (await findRunningPostgres(path.join(home, 'postgres'))) ?? '';
    const db = openDatabase(databaseUrl, { maxConnections: 2 });
    closers.push(() => db.$disconnect());
    const proxy = await startTcpProxy(async () => Number(new URL(url).port), CONTROLLER_ADDRESS);
    closers.push(proxy.close);
    const loseAnswerFile = path.join(folder, 'lose-answer');
    const trial: Trial = { slurm, db, client, waiting, loseAnswerFile };
    const versionId = await importImages(client, {
      name: 'Cluster',
      folder: path.join(home, 'imports', 'images'),
      waiting,
      deadlineMs: STUCK_MS,
    });

    const launcher = await startLauncher(trial, { folder, nodeFolder, key, port: proxy.port });
    closers.push(launcher.stop);
    const undisturbedMs = performance.now();
    const undisturbed = await launchTraining(client, training(versionId));
    await waiting.until('an undisturbed training', async () => isOver(await statusOf(db, undisturbed)), STUCK_MS);
    const undisturbedSeconds = (performance.now() - undisturbedMs) / 1000;
    report(
      `one training went through Slurm undisturbed in ${undisturbedSeconds.toFixed(1)} s: ${await statusOf(db, undisturbed)}`,
    );

    const checkpoint = await db.checkpoint.findFirst({ where: { sourceRunId: undisturbed } });
    if (checkpoint === null) throw new Error('The undisturbed training made no checkpoint.');
    const evaluation = { checkpointId: checkpoint.id, versionId };
    const evaluated = await launchEvaluation(client, evaluation);
    await waiting.until('an undisturbed evaluation', async () => isOver(await statusOf(db, evaluated)), STUCK_MS);
    report(`one evaluation went through Slurm undisturbed: ${await statusOf(db, evaluated)}`);

    await writeFile(loseAnswerFile, '');
    const people = await Promise.all(
      PEOPLE.map(async (person) => connectToRegistry(url, await newKey(client, person))),
    );
    const runIds: string[] = [];
    while (runIds.length < runCount) {
      const person = people[runIds.length % people.length] ?? client;
      const isEvaluation = runIds.length % EVALUATION_EVERY === EVALUATION_EVERY - 1;
      runIds.push(
        await (isEvaluation ? launchEvaluation(person, evaluation) : launchTraining(person, training(versionId))),
      );
    }
    await waiting.until('a lost answer', async () => !(await isThere(loseAnswerFile)), 60_000);
    const lost = await db.placement.findFirst({ where: { state: 'SUBMITTING' } });
    const faults: FaultFelt[] = [];
    report(LOST_ANSWER);
    const isLate = (): boolean => performance.now() - startedMs > deadlineMs;
    for (const [name, fault] of Object.entries(FAULTS)) {
      const job = await nextRunningJob(trial, runIds, isLate);
      if (job === undefined) break;
      await fault(trial, job);
      report(`${name} (job ${job.id} on ${job.node})`);
      // Its worker has to feel it before the next fault comes.
      const hasChanged = async (): Promise<boolean> =>
        (await statusOf(db, job.runId)) !== 'RUNNING' || (await attemptOf(db, job.runId)) > job.attempt;
      await waiting.until('the fault to be felt', hasChanged, 90_000).catch(() => undefined);
      const run = await db.run.findUniqueOrThrow({ where: { id: job.runId } });
      const felt = `${run.kind.toLowerCase()} at ${Math.round(job.progress * 100)} % in attempt ${job.attempt}, afterwards ${run.status} in attempt ${run.attempt}`;
      faults.push({ fault: name, felt });
      report(`   its run: ${felt}`);
    }
    await untilAllOver(trial, runIds, isLate, deadlineMs);
    faults.unshift({ fault: LOST_ANSWER, felt: lost === null ? 'not seen' : await endOf(db, lost.id) });
    const promises = await checkAtEnd(trial, { training: undisturbed, evaluation: evaluated }, runIds);
    const ends = await db.placement.groupBy({ by: ['state', 'schedulerState'], _count: { _all: true } });
    return {
      startedAt,
      slurm: (await slurm.run('squeue', '--version')).trim(),
      machine: `${os.availableParallelism()} cores of ${os.cpus()[0]?.model ?? 'an unknown CPU'}, Node ${process.version}`,
      loadAverage: { before: loadBefore, after: os.loadavg() },
      evaluationCount: Math.floor(runCount / EVALUATION_EVERY),
      trainingCount: runCount - Math.floor(runCount / EVALUATION_EVERY),
      personCount: PEOPLE.length,
      durationSeconds: (performance.now() - startedMs) / 1000,
      undisturbedSeconds,
      faults,
      leftOut: FAULT_NAMES.filter((name) => !faults.some(({ fault }) => fault === name)),
      jobEnds: Object.fromEntries(ends.map((end) => [end.schedulerState ?? end.state, end._count._all])),
      promises,
    };
  } finally {
    for (const close of closers.toReversed())
      await close().catch((error: unknown) => options.onProgress(`a part did not stop: ${String(error)}`));
    await rm(folder, { recursive: true, force: true });
  }
}

interface LauncherFacts {
  readonly folder: string;
  /** The same path on each node, with another folder behind it. */
  readonly nodeFolder: string;
  readonly key: string;
  /** Of the server, as the nodes reach it. */
  readonly port: number;
}

/** `paraffin launcher`, with an sbatch whose answer can be lost. */
async function startLauncher({ slurm, loseAnswerFile }: Trial, { folder, nodeFolder, key, port }: LauncherFacts) {
  const bin = path.join(folder, 'bin');
  const jobs = path.join(folder, 'jobs');
  await mkdir(bin);
  await mkdir(jobs, { mode: 0o700 });
  const real = (await slurm.run('sh', '-c', 'command -v sbatch')).trim();
  await writeFile(
    path.join(bin, 'sbatch'),
    `#!/bin/sh\nif [ -e "${loseAnswerFile}" ]; then ${real} "$@" >/dev/null; rm -f "${loseAnswerFile}"; kill -9 $$; fi\nexec ${real} "$@"\n`,
  );
  await chmod(path.join(bin, 'sbatch'), 0o755);
  const template = path.join(folder, 'site.sbatch');
  // The folder of the jobs' settings and logs is all that the nodes share, as on a cluster.
  await writeFile(
    template,
    `#SBATCH --partition=gpu\n#SBATCH --cpus-per-task=1\n#SBATCH --time=20\nexport PARAFFIN_DATA_DIR="${nodeFolder}"\n`,
  );
  return startProgram(
    [
      ...['launcher', '--slurm', '--folder', jobs, '--template', template, '--every', '5', '--warn', '30'],
      ...['--paraffin', `${process.execPath} --disable-warning=ExperimentalWarning ${PARAFFIN}`],
    ],
    {
      // The nodes see the server at the address of this machine in their network.
      PARAFFIN_URL: `http://${CONTROLLER_ADDRESS}:${port}`,
      PARAFFIN_API_KEY: key,
      PARAFFIN_LOG_LEVEL: 'warn',
      PATH: `${bin}:${slurm.env['PATH']}`,
    },
    slurm,
  );
}

async function startProgram(words: readonly string[], settings: Readonly<Record<string, string>>, slurm: SlurmCluster) {
  const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', PARAFFIN, ...words], {
    env: { ...slurm.env, PARAFFIN_DATABASE_URL: '', ...settings },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const gone = once(child, 'exit');
  return {
    lines: createInterface({ input: child.stdout }),
    stop: async () => {
      if (child.exitCode === null && child.signalCode === null) child.kill('SIGTERM');
      await gone;
    },
  };
}

async function addressOf(lines: AsyncIterable<string>): Promise<string> {
  for await (const line of lines) {
    const url = /(http:\/\/\S+)\/graphql/.exec(line)?.[1];
    if (url !== undefined) return url;
  }
  throw new Error('The server ended without an address.');
}

/** Waits for a job that trains and has much left to do, so that the fault costs something. */
async function nextRunningJob({ slurm, db, waiting }: Trial, runIds: readonly string[], isLate: () => boolean) {
  let found: RunningJob | undefined;
  await waiting.until(
    'a job that trains',
    async () => {
      if (isLate() || (await overCount(db, runIds)) === runIds.length) return true;
      const rows = (await slurm.run('squeue', '--noheader', '--states=RUNNING', '--format=%i|%j|%N'))
        .trim()
        .split('\n');
      for (const row of rows) {
        const [id = '', name = '', node = ''] = row.split('|');
        const placement = await db.placement.findUnique({ where: { name }, include: { run: true } });
        if (placement === null || placement.run.status !== 'RUNNING' || !runIds.includes(placement.runId)) continue;
        if (!(placement.run.workerName?.startsWith(name) ?? false) || (node !== 'node1' && node !== 'node2')) continue;
        const { attempt } = placement.run;
        // One that has begun, and that is not about to end before the fault is felt.
        const { progress } = placement.run;
        if (progress <= 0 || progress > 0.4) continue;
        found = { id, name, runId: placement.runId, node, attempt, progress };
        return true;
      }
      return false;
    },
    STUCK_MS,
  );
  return found;
}

const OVER = ['SUCCEEDED', 'FAILED', 'CANCELED'] as const;
const isOver = (status: string): boolean => OVER.some((over) => over === status);

async function statusOf(db: Database, id: string): Promise<string> {
  return (await db.run.findUniqueOrThrow({ where: { id } })).status;
}
async function attemptOf(db: Database, id: string): Promise<number> {
  return (await db.run.findUniqueOrThrow({ where: { id } })).attempt;
}
function overCount(db: Database, runIds: readonly string[]): Promise<number> {
  return db.run.count({ where: { id: { in: [...runIds] }, status: { in: [...OVER] } } });
}
function isThere(file: string): Promise<boolean> {
  return readFile(file).then(
    () => true,
    () => false,
  );
}

/** Resolves when all are over, when the time is, or when nothing has happened for so long that nothing will. */
async function untilAllOver(
  { db, waiting }: Trial,
  runIds: readonly string[],
  isLate: () => boolean,
  deadlineMs: number,
): Promise<void> {
  let lastCount = -1;
  let lastMs = performance.now();
  await waiting.until(
    'the trainings',
    async () => {
      if (isLate() || (await overCount(db, runIds)) === runIds.length) return true;
      const events = await db.runEvent.count();
      if (events !== lastCount) lastMs = performance.now();
      lastCount = events;
      return performance.now() - lastMs > STUCK_MS;
    },
    deadlineMs + STUCK_MS,
  );
}

async function checkAtEnd(
  { slurm, db, waiting }: Trial,
  undisturbed: { readonly training: string; readonly evaluation: string },
  runIds: readonly string[],
): Promise<ChaosPromise[]> {
  const statuses = await Promise.all(runIds.map((id) => statusOf(db, id)));
  const rows = await db.run.findMany({ where: { id: { in: [...runIds] } }, select: { id: true, kind: true } });
  const trainings = rows.filter(({ kind }) => kind === 'PRETRAINING');
  const evaluations = rows.filter(({ kind }) => kind === 'EVALUATION');
  const wanted = await outcomeOf(db, undisturbed.training);
  const outcomes = await Promise.all(trainings.map(({ id }) => outcomeOf(db, id)));
  const equal = outcomes.filter(
    ({ weights, losses }) =>
      weights.length === 1 &&
      JSON.stringify(weights) === JSON.stringify(wanted.weights) &&
      JSON.stringify(losses) === JSON.stringify(wanted.losses),
  );
  const result = await resultOf(db, undisturbed.evaluation);
  const results = await Promise.all(evaluations.map(({ id }) => resultOf(db, id)));
  const equalResults = results.filter((each) => each !== null && each === result);
  let jobs: string[] = [];
  let processes: number[] = [];
  let open = 0;
  await waiting
    .until(
      'the last jobs to end',
      async () => {
        jobs = (await slurm.run('squeue', '--noheader', '--format=%j'))
          .split('\n')
          .filter((name) => name.startsWith('paraffin-'));
        processes = await slurm.processesOnNodes();
        open = await db.placement.count({ where: { state: { not: 'ENDED' } } });
        return jobs.length + processes.length + open === 0;
      },
      120_000,
    )
    .catch(() => undefined);
  const succeeded = statuses.filter((status) => status === 'SUCCEEDED').length;
  return [
    { promise: 'every run SUCCEEDED', held: succeeded === runIds.length, seen: `${succeeded} of ${runIds.length}` },
    {
      promise:
        'each training registered one checkpoint, with the weights and losses of an undisturbed training, bit for bit',
      held: equal.length === trainings.length,
      seen: `${equal.length} of ${trainings.length}`,
    },
    {
      promise: 'each evaluation registered the metrics and the predictions of an undisturbed one',
      held: equalResults.length === evaluations.length,
      seen: `${equalResults.length} of ${evaluations.length}`,
    },
    { promise: 'no job is left in Slurm', held: jobs.length === 0, seen: jobs.length === 0 ? 'none' : jobs.join(', ') },
    { promise: 'no placement is left open', held: open === 0, seen: String(open) },
    {
      promise: 'no process is left on a node',
      held: processes.length === 0,
      seen: processes.length === 0 ? 'none' : processes.join(', '),
    },
  ];
}

function training(versionId: string): SmallTraining {
  return { modelSlug: 'cluster', versionId, steps: STEPS, checkpointEverySteps: KEEP_EVERY };
}

/** What became of a job whose submission had no answer. */
async function endOf(db: Database, placementId: string): Promise<string> {
  const { externalId, schedulerState } = await db.placement.findUniqueOrThrow({ where: { id: placementId } });
  return externalId === null
    ? 'its job was not found'
    : `found as job ${externalId}, ended as ${schedulerState ?? '?'}`;
}

/** What an evaluation has found, in a form that can be compared; null if it has registered nothing. */
async function resultOf(db: Database, runId: string): Promise<string | null> {
  const found = await db.evaluation.findUnique({
    where: { runId },
    select: {
      confusionMatrix: true,
      predictionsSha256: true,
      metrics: { select: { name: true, value: true, ci95Low: true, ci95High: true }, orderBy: { name: 'asc' } },
    },
  });
  return found === null ? null : JSON.stringify(found);
}

/** A key of this person, who may launch. */
async function newKey(client: RegistryClient, owner: string): Promise<string> {
  const made = z.object({ createKey: z.object({ secret: z.string() }) });
  const mutation = 'mutation ($input: CreateKeyInput!) { createKey(input: $input) { secret } }';
  return (await client.request(made, mutation, { input: { name: 'cluster', owner, role: 'OPERATOR' } })).createKey
    .secret;
}
