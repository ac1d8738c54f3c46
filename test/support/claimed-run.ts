/** A run that a worker of the test holds over HTTP, for tests of what it may do with the token. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { NO_CAPABILITIES } from '../../src/protocol/requirements.ts';
import { PROTOCOL_VERSION, type ClaimedRun } from '../../src/protocol/worker-calls.ts';
import { createWorkerRegistry } from '../../workers/registry/http.ts';
import type { TestDatabase } from './database.ts';
import { ADMIN } from './registry.ts';
import type { TestServer } from './server.ts';

/** An import of the server's folder that has been claimed and does nothing. */
export async function claimIdleImport({ db }: TestDatabase, server: TestServer): Promise<ClaimedRun> {
  const slug = `idle-${randomUUID().slice(0, 8)}`;
  const dataset = await db.dataset.create({ data: { slug, name: slug, imageKind: 'PATCH', synthetic: true } });
  const key = await server.access.createKey(ADMIN, { name: 'worker', owner: 'Test', role: 'OPERATOR' });
  const input = { datasetId: dataset.id, path: server.folder, layout: 'FLAT' };
  const { id } = await server.services.runs.launchImport(ADMIN, input);
  const claimed = await createWorkerRegistry({ url: server.url, token: key.secret }).claim(
    {
      ...{ protocolVersion: PROTOCOL_VERSION, programVersion: '0', workerName: 'tester', kinds: ['IMPORT'] },
      ...{ deviceId: null, runId: id, waitSeconds: 0, capabilities: NO_CAPABILITIES },
    },
    AbortSignal.timeout(60_000),
  );
  assert.ok(claimed !== undefined);
  return claimed;
}
