/** A registry of its own with its server and worker, and the requests of the stages. */
import { readdir, stat } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';
import { startAttackedServer } from '../attack/attacked-server.ts';
import { connectToRegistry, type RegistryClient, type RunEventMessage } from '../src/cli/demo/client.ts';

export interface ScaleRegistry {
  readonly client: RegistryClient;
  readonly serverPid: number;
  /** Follows a run to its end. @throws Error with the run's failure, or the reason of the signal, which cancels it. */
  follow(runId: string, onEvent: (event: RunEventMessage) => Promise<void> | void): Promise<void>;
  /** Bytes of all files of the registry outside its database. */
  storedBytes(): Promise<number>;
  stop(): Promise<void>;
}

const FAILURE = 'failure { code message hint }';
const failureSchema = z.object({ code: z.string(), message: z.string(), hint: z.string().nullable() }).nullable();

/** @param importRoot the folder from which images may be imported. */
export async function openScaleRegistry(
  dataDir: string,
  importRoot: string,
  signal: AbortSignal,
): Promise<ScaleRegistry> {
  const server = await startAttackedServer(dataDir, { PARAFFIN_WORKER: 'true', PARAFFIN_IMPORT_ROOTS: importRoot });
  const client = connectToRegistry(server.url, server.adminKey);
  const registry: ScaleRegistry = {
    client,
    serverPid: server.pid,
    follow: async (runId, onEvent) => {
      const cancel = (): void => void cancelRun(client, runId).catch(() => undefined);
      signal.addEventListener('abort', cancel);
      if (signal.aborted) cancel();
      let ended = '';
      try {
        for await (const event of client.follow(runId)) {
          ended = event.kind;
          await onEvent(event);
        }
      } finally {
        signal.removeEventListener('abort', cancel);
      }
      signal.throwIfAborted();
      if (ended !== 'SUCCEEDED') throw new Error(`The run ended as ${ended}: ${await failureOf(client, runId)}`);
    },
    storedBytes: () => bytesBelow(dataDir),
    stop: () => server.stop(),
  };
  try {
    await cancelUnfinished(registry);
    return registry;
  } catch (error) {
    await server.stop();
    throw error;
  }
}

/** Of an earlier command that was killed: they would run beside the stages that are measured. */
async function cancelUnfinished({ client }: ScaleRegistry): Promise<void> {
  const { runs } = await client.request(
    z.object({ runs: z.object({ nodes: z.array(z.object({ id: z.string() })) }) }),
    '{ runs(filter: { statuses: [QUEUED, RUNNING, CANCELING] }) { nodes { id } } }',
  );
  for (const { id } of runs.nodes) {
    await cancelRun(client, id);
    for await (const _ of client.follow(id));
  }
}

async function cancelRun(client: RegistryClient, id: string): Promise<void> {
  await client.request(z.unknown(), 'mutation ($id: ID!) { cancelRun(id: $id) { run { id } } }', { id });
}

async function failureOf(client: RegistryClient, id: string): Promise<string> {
  const { run } = await client.request(
    z.object({ run: z.object({ failure: failureSchema }) }),
    `query ($id: ID!) { run(id: $id) { ${FAILURE} } }`,
    { id },
  );
  return run.failure === null ? 'it gives no reason' : Object.values(run.failure).join(' ');
}

/** Files that other processes delete meanwhile count as nothing. */
async function bytesBelow(folder: string): Promise<number> {
  const entries = await readdir(folder, { withFileTypes: true }).catch(() => []);
  let byteSize = 0;
  for (const entry of entries) {
    const file = path.join(folder, entry.name);
    if (entry.isDirectory() && entry.name !== 'postgres') byteSize += await bytesBelow(file);
    else if (entry.isFile()) byteSize += (await stat(file).catch(() => ({ size: 0 }))).size;
  }
  return byteSize;
}

const importedSchema = z.object({
  run: z.object({ datasetVersion: z.object({ id: z.string(), imageCount: z.number() }) }),
});

/** The version that an import has sealed. */
export async function importedVersion(client: RegistryClient, runId: string) {
  const query = 'query ($id: ID!) { run(id: $id) { datasetVersion { id imageCount } } }';
  return (await client.request(importedSchema, query, { id: runId })).run.datasetVersion;
}

const payloadSchema = z.object({
  run: z.object({ id: z.string() }).nullable(),
  userErrors: z.array(z.object({ code: z.string(), message: z.string(), hint: z.string().nullable() })),
});

/** @returns the id of the run. @throws Error with the server's reason for a refusal. */
export async function launch(
  client: RegistryClient,
  mutation: 'importDatasetVersion' | 'launchPretraining' | 'launchEvaluation',
  input: Readonly<Record<string, unknown>>,
): Promise<string> {
  const type = `${mutation.slice(0, 1).toUpperCase()}${mutation.slice(1)}Input`;
  const query = `mutation ($input: ${type}!) { answer: ${mutation}(input: $input) { run { id } userErrors { code message hint } } }`;
  const { answer } = await client.request(z.object({ answer: payloadSchema }), query, { input });
  if (answer.run !== null) return answer.run.id;
  throw new Error(answer.userErrors.map(({ code, message, hint }) => `${code}: ${message} ${hint ?? ''}`).join(' '));
}

const checkpointSchema = z.object({ run: z.object({ checkpoints: z.array(z.object({ id: z.string() })) }) });

export async function checkpointOf(client: RegistryClient, runId: string): Promise<string> {
  const { run } = await client.request(checkpointSchema, 'query ($id: ID!) { run(id: $id) { checkpoints { id } } }', {
    id: runId,
  });
  const last = run.checkpoints.at(-1);
  if (last === undefined) throw new Error('The pretraining registered no checkpoint.');
  return last.id;
}

const leakageSchema = z.object({
  run: z.object({
    evaluation: z.object({
      leakage: z.object({
        testImageCount: z.number(),
        exactImageCount: z.number().nullable(),
        nearDuplicateImageCount: z.number().nullable(),
      }),
    }),
  }),
});

export async function leakageOf(client: RegistryClient, runId: string) {
  const query =
    'query ($id: ID!) { run(id: $id) { evaluation { leakage { testImageCount exactImageCount nearDuplicateImageCount } } } }';
  return (await client.request(leakageSchema, query, { id: runId })).run.evaluation.leakage;
}
