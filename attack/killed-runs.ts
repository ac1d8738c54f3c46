/** Runs of every kind while server, worker and their processes are killed at random moments: every run must succeed. */
import { mkdir, readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { drawTissue } from '../src/synthetic/tissue.ts';
import { at } from '../test/support/catalogue.ts';
import { eventually } from '../test/support/eventually.ts';
import { childrenOf, familyOf, identityOf, isAlive } from '../test/support/processes.ts';
import { oneOf, type Attack, type Random } from './attack.ts';
import type { AttackedServer } from './attacked-server.ts';

/** After this time a run has failed: an undisturbed one takes seconds, an expired lease half a minute. */
const STUCK_MS = 300_000;
/** The last kill comes before most of the work that it may hit is over. */
const KILL_WINDOW_MS = 6_000;
const ENDED = ['SUCCEEDED', 'FAILED', 'CANCELED'];
/** A worker whose server was killed ends its run, and waits three minutes for the registry to take the outcome. */
const FOLLOW_MS = 300_000;

type Victim = 'server' | 'worker' | 'process of a run';

export const killedRuns: Attack = {
  name: 'killed-runs',
  about:
    'imports, pretrainings, evaluations and exports whose server, worker or own process is killed at random moments by SIGKILL',
  share: 20,
  run: async ({ quick, random, startServer, folder, isTimeLeft }) => {
    const dataDir = await folder();
    const env = { PARAFFIN_LOG_LEVEL: 'silent', PARAFFIN_WORKER: 'true', PARAFFIN_CPU_SLOTS: '2' };
    const start = (): Promise<AttackedServer> => startServer({ dataDir, env });
    const state: AttackState = { server: await start(), start, findings: [], seen: new Map(), tryCount: 0 };
    const subject = await prepare(state.server, dataDir, quick);
    for (let round = 1; round === 1 || (!quick && isTimeLeft()); round += 1) {
      const runIds = await launchAll(state.server, subject, round);
      for (let kills = quick ? 1 : 3; kills > 0; kills -= 1) {
        await pause(random() * KILL_WINDOW_MS);
        await kill(state, victimOf(kills, random), random);
      }
      for (const [kind, id] of runIds) await assertSucceeds(state, kind, id);
      await assertNothingLeft(state);
      if (state.findings.length > 0) break;
    }
    return { tryCount: state.tryCount, findings: state.findings };
  },
};

interface AttackState {
  server: AttackedServer;
  readonly start: () => Promise<AttackedServer>;
  readonly findings: string[];
  /** Processes, identified by what no later process shares with them. */
  readonly seen: Map<string, number>;
  tryCount: number;
}

/** The objects that the runs use. */
interface Subject {
  readonly datasetId: string;
  readonly images: string;
  /** Undefined in the quick form, which trains nothing. */
  readonly trained: { readonly versionId: string; readonly checkpointId: string } | undefined;
}

async function change(server: AttackedServer, field: string, type: string, input: unknown): Promise<string> {
  const selection = field === 'createDataset' ? 'dataset { id }' : 'run { id }';
  const answer = await server.ask(
    `mutation($input: ${type}!) { ${field}(input: $input) { made: ${selection} userErrors { code message } } }`,
    { input },
  );
  const id: unknown = at(answer, `data.${field}.made.id`);
  if (typeof id !== 'string') throw new Error(`${field}: ${JSON.stringify(answer).slice(0, 500)}`);
  return id;
}

async function prepare(server: AttackedServer, dataDir: string, quick: boolean): Promise<Subject> {
  const images = path.join(dataDir, 'imports', 'tissue');
  await mkdir(images, { recursive: true });
  await drawTissue({ outDir: images, imagesPerLabel: 6, imageSizePx: 64, seed: 1, groups: 3 });
  const facts = { name: 'Killed', slug: 'killed', imageKind: 'PATCH', synthetic: true, tasks: ['CLASSIFICATION'] };
  const datasetId = await change(server, 'createDataset', 'CreateDatasetInput', facts);
  if (quick) return { datasetId, images, trained: undefined };
  const ended = async (id: string): Promise<unknown> => {
    const answer = await endOf(server, id);
    if (at(answer, 'data.run.status') !== 'SUCCEEDED')
      throw new Error(`An undisturbed run ended as ${JSON.stringify(answer).slice(0, 500)}`);
    return answer;
  };
  const imported = await ended(
    await change(server, 'importDatasetVersion', 'ImportDatasetVersionInput', importOf(datasetId, images)),
  );
  const versionId = String(at(imported, 'data.run.datasetVersion.id'));
  const trained = await ended(
    await change(server, 'launchPretraining', 'LaunchPretrainingInput', pretrainingOf(versionId, 0)),
  );
  const checkpointId = String(at(trained, 'data.run.checkpoints.0.id'));
  return { datasetId, images, trained: { versionId, checkpointId } };
}

const importOf = (datasetId: string, images: string) => ({ datasetId, path: images, layout: 'FOLDER_PER_LABEL' });
const pretrainingOf = (versionId: string, seed: number) => ({
  modelSlug: 'killed',
  datasets: [{ datasetVersionId: versionId }],
  encoder: 'RESNET18',
  imageSizePx: 32,
  batchSize: 2,
  steps: 6,
  checkpointEverySteps: 2,
  probe: { enabled: false },
  seed,
});

async function launchAll(
  server: AttackedServer,
  { datasetId, images, trained }: Subject,
  seed: number,
): Promise<(readonly [kind: string, id: string])[]> {
  const imported = await change(
    server,
    'importDatasetVersion',
    'ImportDatasetVersionInput',
    importOf(datasetId, images),
  );
  if (trained === undefined) return [['import', imported]];
  const { versionId, checkpointId } = trained;
  const evaluation = { checkpointId, datasetVersionId: versionId, protocol: 'KNN', seed, folds: 3 };
  // For the same formats a checkpoint has one export: a new export needs a checkpoint without them.
  const exported = { checkpointId, formats: seed === 1 ? ['PYTORCH', 'ONNX'] : [] };
  return [
    ['import', imported],
    [
      'pretraining',
      await change(server, 'launchPretraining', 'LaunchPretrainingInput', pretrainingOf(versionId, seed)),
    ],
    ['evaluation', await change(server, 'launchEvaluation', 'LaunchEvaluationInput', evaluation)],
    ['export', await change(server, 'exportCheckpoint', 'ExportCheckpointInput', exported)],
  ];
}

/** At most one of a run's own processes: three such deaths in a row would count as the run's own fault. */
function victimOf(killsLeft: number, random: Random): Victim {
  return killsLeft === 2 ? 'process of a run' : oneOf<Victim>(['server', 'worker'], random);
}

async function kill(state: AttackState, victim: Victim, random: Random): Promise<void> {
  const { server } = state;
  for (const pid of await familyOf(server.pid)) {
    const identity = await identityOf(pid);
    if (identity !== undefined) state.seen.set(identity, pid);
  }
  state.tryCount += 1;
  if (victim === 'server') {
    process.kill(server.pid, 'SIGKILL');
    await server.stop();
    state.server = await state.start();
    return;
  }
  const worker = await workerOf(server);
  const [first, ...others] = worker === undefined ? [] : await childrenOf(worker);
  const pid = victim === 'worker' ? worker : first === undefined ? undefined : oneOf([first, ...others], random);
  if (pid !== undefined && (await isAlive(pid))) process.kill(pid, 'SIGKILL');
}

/** The server's child that is the worker, not PostgreSQL. */
async function workerOf(server: AttackedServer): Promise<number | undefined> {
  for (const pid of await childrenOf(server.pid)) {
    if ((await commandOf(pid)).includes('workers/main.ts')) return pid;
  }
  return undefined;
}

async function commandOf(pid: number): Promise<string> {
  const commandLine = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '');
  return `process ${pid} (${commandLine.replaceAll('\0', ' ').trim().slice(0, 200)})`;
}

async function endOf(server: AttackedServer, id: string): Promise<unknown> {
  const query =
    'query($id: ID!) { run(id: $id) { status attempt failure { code message } datasetVersion { id } checkpoints { id } } }';
  return eventually(
    'a run to end',
    async () => {
      const answer = await server.ask(query, { id }).catch(() => undefined);
      return ENDED.includes(String(at(answer, 'data.run.status'))) ? answer : undefined;
    },
    STUCK_MS,
  );
}

async function assertSucceeds({ server, findings }: AttackState, kind: string, id: string): Promise<void> {
  const answer = await endOf(server, id).catch((error: unknown) => String(error));
  if (at(answer, 'data.run.status') !== 'SUCCEEDED')
    findings.push(`After kills the ${kind} ${id} did not succeed: ${JSON.stringify(answer).slice(0, 500)}`);
}

/** What a killed process may leave behind: processes, work folders, and partial files in the artifact store. */
async function assertNothingLeft({ server, findings, seen }: AttackState): Promise<void> {
  const left = async (): Promise<string[]> => {
    const family = new Set(await familyOf(server.pid));
    const orphans = await Promise.all(
      [...seen].map(async ([identity, pid]) =>
        !family.has(pid) && (await identityOf(pid)) === identity ? [await commandOf(pid)] : [],
      ),
    );
    const folders = (await readdir(path.join(server.dataDir, 'work'))).map((name) => `work/${name}`);
    const unfinishedDir = path.join(server.dataDir, 'artifacts', 'tmp');
    const files = (await readdir(unfinishedDir, { recursive: true, withFileTypes: true }).catch(() => []))
      .filter((entry) => entry.isFile())
      .map((entry) => path.relative(server.dataDir, path.join(entry.parentPath, entry.name)));
    return [...orphans.flat(), ...folders, ...files];
  };
  await eventually(
    'all processes and files to be removed',
    async () => ((await left()).length === 0 ? true : undefined),
    FOLLOW_MS,
  ).catch(async () => findings.push(`After the kills these remained: ${(await left()).join(', ')}`));
}
