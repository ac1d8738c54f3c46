/** Starts server and worker from their images, each with a volume of its own, and carries a pretraining over HTTP. */
import { chmod, mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { z } from 'zod';
import { connectToRegistry, type RegistryClient } from '../src/cli/demo/client.ts';
import { drawTissue } from '../src/synthetic/tissue.ts';
import type { Container, ContainerEngine, ContainerProcess } from './engines.ts';

const STEPS = 20;
const READY_MS = 180_000;
const RUN_MS = 900_000;
/** The user "node" of the images. */
const USER_ID = 1000;

export interface TrialOptions {
  readonly engine: ContainerEngine;
  readonly server: string;
  readonly worker: string;
  readonly signal: AbortSignal;
  readonly onProgress: (text: string) => void;
}

export interface TrialReport {
  readonly pretraining: { readonly status: string; readonly steps: number; readonly durationSeconds: number };
  readonly containers: Readonly<Record<'server' | 'worker', ContainerReport>>;
}

export interface ContainerReport {
  readonly processes: readonly ContainerProcess[];
  /** Files outside the volume that were written. */
  readonly strayFiles: readonly string[];
}

export async function runTrial({ engine, server, worker, signal, onProgress }: TrialOptions): Promise<TrialReport> {
  const folder = await mkdtemp(path.join(os.tmpdir(), 'paraffin-images-'));
  const running: Container[] = [];
  try {
    const [serverData, workerData, keys] = await Promise.all(
      ['server', 'worker', 'keys'].map(async (name) => {
        const volume = path.join(folder, name);
        await mkdir(volume);
        // Whatever number the user of the image has on this machine.
        await chmod(volume, 0o777);
        return volume;
      }),
    );
    if (serverData === undefined || workerData === undefined || keys === undefined) throw new Error('no volumes');
    await chmod(folder, 0o755);
    const images = path.join(serverData, 'imports', 'images');
    await drawTissue({ outDir: images, imagesPerLabel: 4, imageSizePx: 40, seed: 1, groups: 2 });
    const port = String(await freePort());
    const url = `http://127.0.0.1:${port}`;
    const serverContainer = await engine.start({
      image: server,
      volume: serverData,
      env: { PARAFFIN_PORT: port, PARAFFIN_HOST: '127.0.0.1', PARAFFIN_LOG_LEVEL: 'warn' },
      logFile: path.join(folder, 'server.log'),
    });
    running.push(serverContainer);
    await until('the server is ready', READY_MS, signal, serverContainer, path.join(folder, 'server.log'), () =>
      fetch(`${url}/readyz`).then(
        ({ ok }) => ok,
        () => false,
      ),
    );
    onProgress('the server answers');
    const key = (await serverContainer.execute('cat', '/data/admin-key')).trim();
    const client = connectToRegistry(url, key);
    const versionId = await importImages(client, signal);
    onProgress('the server has imported images');

    const secret = await serverContainer.execute(
      ...['node', 'bin/paraffin.mjs', 'keys', 'add', 'worker', '--owner', 'images', '--role', 'operator'],
      ...['--actions', 'work', '--quiet'],
    );
    // By the user of the images, who alone may read it: as the service "worker-key" of docker/compose.yaml does.
    const keeper = await engine.start({
      image: server,
      volume: keys,
      env: { KEY: secret.trim() },
      command: ['sh', '-c', 'umask 077 && echo "PARAFFIN_API_KEY=$KEY" > /data/worker.env'],
      logFile: path.join(folder, 'keys.log'),
    });
    running.push(keeper);
    while (await keeper.isRunning()) await setTimeout(100, undefined, { signal });
    const workerContainer = await engine.start({
      image: worker,
      volume: workerData,
      mounts: { '/keys': keys },
      env: { PARAFFIN_URL: url, PARAFFIN_LOG_LEVEL: 'warn' },
      command: ['node', 'scripts/run.mjs', 'workers/main.ts', '--settings', '/keys/worker.env'],
      logFile: path.join(folder, 'worker.log'),
    });
    running.push(workerContainer);
    const startedMs = performance.now();
    const runId = await launch(client, versionId);
    let status = '';
    let processes: readonly ContainerProcess[] = [];
    await until(
      'the pretraining to end',
      RUN_MS,
      signal,
      workerContainer,
      path.join(folder, 'worker.log'),
      async () => {
        status = await statusOf(client, runId);
        if (status === 'RUNNING') processes = longest(processes, await workerContainer.processes());
        return isOver(status);
      },
    );
    onProgress(`the pretraining ${status}`);
    return {
      pretraining: { status, steps: STEPS, durationSeconds: (performance.now() - startedMs) / 1000 },
      containers: {
        server: { processes: await serverContainer.processes(), strayFiles: await serverContainer.strayFiles() },
        worker: { processes, strayFiles: await workerContainer.strayFiles() },
      },
    };
  } finally {
    for (const container of running.toReversed())
      await container.stop().catch((error: unknown) => onProgress(`a container did not stop: ${String(error)}`));
    await rm(folder, { recursive: true, force: true });
  }
}

/** @returns one sentence for each promise that was not kept. */
export function brokenPromises({ pretraining, containers }: TrialReport): readonly string[] {
  return [
    ...(pretraining.status === 'SUCCEEDED' ? [] : [`The pretraining ended as ${pretraining.status}.`]),
    ...Object.entries(containers).flatMap(([name, { processes, strayFiles }]) => [
      ...(processes.length > 0 ? [] : [`No process of the ${name} was seen.`]),
      ...processes
        .filter(({ userId }) => userId !== USER_ID)
        .map(({ userId, command }) => `The ${name} runs "${command.slice(0, 80)}" as user ${userId}.`),
      ...strayFiles.map((file) => `The ${name} wrote ${file}, outside its volume.`),
    ]),
  ];
}

async function freePort(): Promise<number> {
  const probe = createServer();
  await new Promise<void>((resolve) => probe.listen(0, '127.0.0.1', resolve));
  const address = probe.address();
  await new Promise((resolve) => probe.close(resolve));
  if (address === null || typeof address === 'string') throw new Error('The port is not known.');
  return address.port;
}

function longest<T>(one: readonly T[], other: readonly T[]): readonly T[] {
  return other.length > one.length ? other : one;
}

async function until(
  what: string,
  withinMs: number,
  signal: AbortSignal,
  container: Container,
  logFile: string,
  isSo: () => Promise<boolean>,
): Promise<void> {
  const endMs = performance.now() + withinMs;
  while (!(await isSo())) {
    signal.throwIfAborted();
    const isLate = performance.now() > endMs;
    if (isLate || !(await container.isRunning())) {
      const log = await readFile(logFile, 'utf8').catch(() => '');
      throw new Error(
        `${isLate ? 'Waited too long for' : 'The container ended before'} ${what}:\n${log.slice(-3_000)}`,
      );
    }
    await setTimeout(500, undefined, { signal });
  }
}

const isOver = (status: string): boolean => ['SUCCEEDED', 'FAILED', 'CANCELED'].includes(status);

async function statusOf(client: RegistryClient, id: string): Promise<string> {
  const answer = z.object({ run: z.object({ status: z.string() }) });
  return (await client.request(answer, 'query ($id: ID!) { run(id: $id) { status } }', { id })).run.status;
}

async function importImages(client: RegistryClient, signal: AbortSignal): Promise<string> {
  const made = z.object({ createDataset: z.object({ dataset: z.object({ id: z.string() }) }) });
  const { createDataset } = await client.request(
    made,
    'mutation { createDataset(input: { name: "Images", imageKind: PATCH, synthetic: true, organs: [], stains: ["HE"], tasks: [CLASSIFICATION] }) { dataset { id } } }',
  );
  const datasetId = createDataset.dataset.id;
  const launched = z.object({ importDatasetVersion: z.object({ run: z.object({ id: z.string() }) }) });
  const { importDatasetVersion } = await client.request(
    launched,
    'mutation ($input: ImportDatasetVersionInput!) { importDatasetVersion(input: $input) { run { id } } }',
    { input: { datasetId, path: '/data/imports/images', layout: 'FOLDER_PER_LABEL' } },
  );
  const endMs = performance.now() + RUN_MS;
  for (;;) {
    const status = await statusOf(client, importDatasetVersion.run.id);
    if (status === 'SUCCEEDED') break;
    if (isOver(status) || performance.now() > endMs) throw new Error(`The import ended as ${status}.`);
    await setTimeout(500, undefined, { signal });
  }
  const found = z.object({
    dataset: z.object({ versions: z.object({ nodes: z.array(z.object({ id: z.string() })) }) }),
  });
  const { dataset } = await client.request(
    found,
    'query ($id: ID!) { dataset(id: $id) { versions(first: 1) { nodes { id } } } }',
    { id: datasetId },
  );
  const [version] = dataset.versions.nodes;
  if (version === undefined) throw new Error('The import left no version.');
  return version.id;
}

async function launch(client: RegistryClient, versionId: string): Promise<string> {
  const launched = z.object({ launchPretraining: z.object({ run: z.object({ id: z.string() }) }) });
  const input = {
    modelSlug: 'images',
    datasets: [{ datasetVersionId: versionId }],
    encoder: 'RESNET18',
    imageSizePx: 32,
    batchSize: 2,
    steps: STEPS,
    probe: { enabled: false },
    seed: 1,
  };
  return (
    await client.request(
      launched,
      'mutation ($input: LaunchPretrainingInput!) { launchPretraining(input: $input) { run { id } } }',
      { input },
    )
  ).launchPretraining.run.id;
}
