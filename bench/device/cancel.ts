/**
 * Cancels a training on the device through the whole program: a server, its worker, a run that is canceled while it
 * trains, and another that takes the device after it.
 */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { z } from 'zod';
import { connectToRegistry, type RegistryClient } from '../../src/cli/demo/client.ts';
import type { DemoDataset } from '../../src/cli/demo/images.ts';
import {
  ensureDataset,
  followRun,
  importedVersion,
  launchImport,
  launchPretraining,
} from '../../src/cli/demo/steps.ts';
import { drawTissue } from '../../src/synthetic/tissue.ts';
import { withServer } from '../server.ts';

export interface CancelSizes {
  readonly imageSidePx: number;
  readonly batchSize: number;
}

export interface Canceled {
  readonly status: string;
  readonly cancelMs: number;
  readonly nextStatus: string;
  readonly memoryUsedMiB: readonly [number, number] | null;
}

const IMAGES_PER_LABEL = 16;
/** So many that the run cannot end by itself. */
const ENDLESS_STEPS = 100_000;

/**
 * @param env that of the server and of its worker, such as the GPU that they may see.
 * @param memoryUsedMiB of the device now; null without one.
 * @throws Error if the run ends before it is canceled.
 */
export async function cancelTraining(
  { imageSidePx, batchSize }: CancelSizes,
  env: Readonly<Record<string, string>>,
  memoryUsedMiB: () => Promise<number | null>,
): Promise<Canceled> {
  const folder = await mkdtemp(path.join(tmpdir(), 'paraffin-bench-device-'));
  try {
    await drawTissue({
      outDir: folder,
      imagesPerLabel: IMAGES_PER_LABEL,
      imageSizePx: Math.max(64, imageSidePx),
      seed: 1,
      groups: 4,
    });
    return await withServer(
      async (server) => {
        const key = (await readFile(path.join(server.dataDir, 'admin-key'), 'utf8')).trim();
        const client = connectToRegistry(server.url, key);
        const training = {
          ...{ encoder: 'RESNET18', imageSizePx: imageSidePx, batchSize, seed: 1, checkpointEverySteps: 1_000 },
          datasets: [{ datasetVersionId: await importImages(client, folder) }],
        };
        const usedBefore = await memoryUsedMiB();
        const runId = await launchPretraining(client, { ...training, modelSlug: 'canceled', steps: ENDLESS_STEPS });
        const { status, cancelMs } = await cancelAtFirstStep(client, runId);
        const usedAfter = await memoryUsedMiB();
        const nextId = await launchPretraining(client, { ...training, modelSlug: 'next', steps: 2 });
        await followRun(client, 'the run after it', nextId, process.stderr);
        return {
          status,
          cancelMs,
          nextStatus: await statusOf(client, nextId),
          memoryUsedMiB: usedBefore === null || usedAfter === null ? null : [usedBefore, usedAfter],
        };
      },
      { ...env, PARAFFIN_WORKER: 'true', PARAFFIN_IMPORT_ROOTS: folder },
    );
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function importImages(client: RegistryClient, folder: string): Promise<string> {
  const dataset: DemoDataset = {
    slug: 'device-bench',
    name: 'Drawn for the device bench',
    path: folder,
    layout: 'FOLDER_PER_LABEL',
    labelsCsvPath: null,
    patchSizePx: null,
    isTest: false,
  };
  const runId = await launchImport(client, await ensureDataset(client, dataset, true), dataset);
  await followRun(client, 'importing', runId, process.stderr);
  return (await importedVersion(client, runId)).id;
}

async function cancelAtFirstStep(client: RegistryClient, runId: string): Promise<{ status: string; cancelMs: number }> {
  let requestedMs: number | undefined;
  for await (const { metrics } of client.follow(runId)) {
    if (requestedMs !== undefined || metrics?.['loss'] === undefined) continue;
    requestedMs = performance.now();
    await client.request(z.unknown(), 'mutation ($id: ID!) { cancelRun(id: $id) { run { id } } }', { id: runId });
  }
  const status = await statusOf(client, runId);
  if (requestedMs === undefined) throw new Error(`The run is ${status} and never took a step.`);
  return { status, cancelMs: Math.round(performance.now() - requestedMs) };
}

async function statusOf(client: RegistryClient, id: string): Promise<string> {
  const answer = await client.request(
    z.object({ run: z.object({ status: z.string() }) }),
    'query ($id: ID!) { run(id: $id) { status } }',
    { id },
  );
  return answer.run.status;
}
