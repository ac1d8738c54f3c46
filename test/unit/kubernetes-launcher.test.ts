/** The launcher of Kubernetes against a stand-in API server: its answers, its refusals, and what is lost on the way. */
import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { z } from 'zod';
import { NO_REQUIREMENTS } from '../../src/protocol/requirements.ts';
import { createKubernetesApi } from '../../workers/launchers/kubernetes/api.ts';
import { openConnection } from '../../workers/launchers/kubernetes/connection.ts';
import { createKubernetes } from '../../workers/launchers/kubernetes/index.ts';
import { jobOf, siteSchema, type JobTemplate } from '../../workers/launchers/kubernetes/job.ts';
import type { Launcher } from '../../workers/launchers/launcher.ts';
import { startStandIn, type StandIn } from '../support/kubernetes-api.ts';
import { temporaryFolder } from '../support/shards.ts';

const template: JobTemplate = {
  launcher: 'kubernetes',
  image: 'paraffin-worker',
  secretName: 'paraffin-worker-kubernetes',
  queue: undefined,
  resources: { cpus: 2, memoryGib: 8, diskGib: 50, gpus: 0, gpuResource: 'nvidia.com/gpu' },
  limitSeconds: 3_600,
  graceSeconds: 120,
  site: siteSchema.parse({}),
};
const job = {
  ...{ name: 'paraffin-0198a7c2-7c1e-7f00-8000-3b1f0c9a5d11-1', runId: '0198a7c2-7c1e-7f00-8000-3b1f0c9a5d11' },
  ...{ requirements: NO_REQUIREMENTS, secondsLeft: null },
};

let server: StandIn;
let launcher: Launcher;

const launcherAt = (url: string, changes: Partial<JobTemplate> = {}): Launcher =>
  createKubernetes({
    api: createKubernetesApi(openConnection({ url, accountFolder: undefined, timeoutMs: 5_000 }), 'lab'),
    template: { ...template, ...changes },
  });

beforeEach(async () => {
  server = await startStandIn();
  launcher = launcherAt(server.url);
});
afterEach(() => server.close());

const uidOf = (name: string): string | undefined => server.jobs.get(name)?.metadata.uid;

describe('a submission', () => {
  test('makes one Job, whose id is its uid', async () => {
    assert.deepEqual(await launcher.submit(job), { kind: 'SUBMITTED', externalId: uidOf(job.name) });
    assert.equal(server.jobs.size, 1);
  });

  test('that was made, but whose answer was lost, finds the same Job when it is sent again', async () => {
    server.trouble = 'LOSE';
    assert.equal((await launcher.submit(job)).kind, 'LOST');
    server.trouble = undefined;
    assert.deepEqual(await launcher.submit(job), { kind: 'SUBMITTED', externalId: uidOf(job.name) });
    assert.equal(server.jobs.size, 1);
  });

  test('whose name somebody else has taken is refused with a sentence', async () => {
    await launcherAt(server.url, { launcher: 'other' }).submit(job);
    const submission = await launcher.submit(job);
    assert.ok(submission.kind === 'REFUSED');
    assert.match(submission.reason, /exists in lab, and this launcher did not make it/);
  });

  test('that the schema of the cluster refuses is refused with its words', async () => {
    const wrong = launcherAt(server.url, { site: siteSchema.parse({ tolerations: [{ efect: 'NoSchedule' }] }) });
    const submission = await wrong.submit(job);
    assert.ok(submission.kind === 'REFUSED');
    assert.match(submission.reason, /^422: .*efect/);
    assert.equal(server.jobs.size, 0);
  });

  for (const [trouble, kind, words] of [
    [401, 'REFUSED', /the token of the launcher is not valid, or has expired/],
    [403, 'REFUSED', /the launcher's role lacks this right/],
    [404, 'REFUSED', /^404: /],
    [409, 'LOST', /^409: /],
    [429, 'LOST', /^429: /],
    [500, 'LOST', /^500: /],
    [503, 'LOST', /^503: /],
    [504, 'LOST', /^504: /],
    ['HTML', 'LOST', /^502: /],
    ['AWAY', 'LOST', /socket hang up|ECONNRESET/],
  ] as const)
    test(`that is answered with ${trouble} is ${kind}`, async () => {
      server.trouble = trouble;
      const submission = await launcher.submit(job);
      assert.equal(submission.kind, kind);
      assert.match('reason' in submission ? submission.reason : '', words);
    });

  test('that a quota forbids is not blamed on the role of the launcher', async () => {
    const quota = 'jobs.batch "x" is forbidden: exceeded quota: lab, requested: count/jobs.batch=1';
    const api = createKubernetesApi(
      {
        send: () => Promise.resolve({ kind: 'ANSWERED', status: 403, body: { reason: 'Forbidden', message: quota } }),
      },
      'lab',
    );
    assert.deepEqual(await createKubernetes({ api, template }).submit(job), {
      kind: 'REFUSED',
      reason: `403: ${quota}`,
    });
  });
});

describe('a look', () => {
  test('finds Jobs by their names, over all pages, with what their pods say', async () => {
    server.pageSize = 2;
    const names = Array.from({ length: 5 }, (_, index) => job.name.replace(/1$/, String(index + 1)));
    for (const name of names) await launcher.submit({ ...job, name });
    server.changePod(names[3] ?? '', { phase: 'Running' });
    const look = await launcher.look([...names.slice(1), 'paraffin-unknown-1']);
    assert.ok(look.kind === 'ANSWERED');
    assert.deepEqual(
      [...look.jobs].map(([name, sights]) => [name, sights[0]?.phase]),
      names.slice(1).map((name, index) => [name, index === 2 ? 'RUNNING' : 'WAITING']),
    );
  });

  test('does not see the Jobs of another launcher', async () => {
    await launcherAt(server.url, { launcher: 'other' }).submit(job);
    assert.deepEqual(await launcher.look([job.name]), { kind: 'ANSWERED', jobs: new Map() });
  });

  for (const trouble of ['AWAY', 'HTML', 401, 403, 429, 500] as const)
    test(`that is answered with ${trouble} says nothing of any Job`, async () => {
      await launcher.submit(job);
      server.trouble = trouble;
      assert.equal((await launcher.look([job.name])).kind, 'UNANSWERED');
    });

  test('that may list Jobs but not pods says nothing either', async () => {
    await launcher.submit(job);
    server.forbidden.add('GET pods');
    assert.equal((await launcher.look([job.name])).kind, 'UNANSWERED');
  });

  test('of a server that does not exist says nothing', async () => {
    assert.equal((await launcherAt('http://127.0.0.1:1').look([job.name])).kind, 'UNANSWERED');
  });
});

describe('a cancellation', () => {
  test('deletes this Job, and not another one that has its name by now', async () => {
    await launcher.submit(job);
    await launcher.cancel(job.name, '00000000-0000-4000-8000-999999999999');
    assert.equal(server.jobs.size, 1);
    await launcher.cancel(job.name, uidOf(job.name) ?? '');
    assert.equal(server.jobs.size, 0);
    await launcher.cancel(job.name, 'gone');
  });
});

describe('the check before the first round', () => {
  test('finds nothing to say of a cluster that would take a Job, and leaves nothing behind', async () => {
    assert.deepEqual(await launcher.check(), []);
    assert.equal(server.jobs.size, 0);
  });

  test('names each right that is missing', async () => {
    for (const right of ['POST jobs', 'GET jobs', 'GET pods', 'DELETE jobs']) server.forbidden.add(right);
    const obstacles = await launcher.check();
    assert.equal(obstacles.length, 4);
    assert.match(obstacles[0] ?? '', /^The cluster would not create the Job in the namespace lab: 403: /);
  });

  test('says once that a cluster does not answer', async () => {
    server.trouble = 'AWAY';
    assert.match((await launcher.check()).join('\n'), /^The cluster cannot be asked: [^\n]*$/);
  });
});

test('in a pod the token is read anew for each request, because the kubelet renews it', async (context) => {
  const folder = await temporaryFolder(context);
  await writeFile(path.join(folder, 'ca.crt'), '');
  const inside = createKubernetesApi(openConnection({ url: server.url, accountFolder: folder }), 'lab');
  for (const token of ['first', 'second']) {
    await writeFile(path.join(folder, 'token'), `${token}\n`);
    server.token = token;
    assert.equal((await inside.listJobs('a=b')).kind, 'DONE');
  }
  server.token = 'third';
  const refused = await inside.listJobs('a=b');
  assert.ok(refused.kind === 'REFUSED' && refused.status === 401);
});

test('in a pod the API server is trusted by the authority of the cluster, and by no other', async (context) => {
  const fixtures = path.join(import.meta.dirname, '../fixtures/kubernetes');
  const cert = await readFile(path.join(fixtures, 'stand-in.crt'), 'utf8');
  const secure = createServer(
    { cert, key: await readFile(path.join(fixtures, 'stand-in.key')) },
    (_request, response) => response.writeHead(200).end('{"items":[]}'),
  );
  await new Promise<void>((resolve) => secure.listen(0, '127.0.0.1', resolve));
  context.after(() => secure.close());
  const { port } = z.custom<AddressInfo>((value) => typeof value === 'object').parse(secure.address());
  const folder = await temporaryFolder(context);
  await writeFile(path.join(folder, 'token'), 'x');
  await writeFile(path.join(folder, 'ca.crt'), cert);
  const apiWith = (accountFolder: string | undefined) =>
    createKubernetesApi(openConnection({ url: `https://127.0.0.1:${port}`, accountFolder }), 'lab');
  assert.deepEqual(await apiWith(folder).listJobs('a=b'), { kind: 'DONE', value: [] });
  const untrusted = await apiWith(undefined).listJobs('a=b');
  assert.ok(untrusted.kind === 'LOST');
  assert.match(untrusted.reason, /self-signed certificate/);
});

test('what is submitted is what the schema was tested with', async () => {
  await launcher.submit(job);
  const { spec } = z.object({ spec: z.unknown() }).parse(jobOf(job, template));
  assert.deepEqual(structuredClone(server.jobs.get(job.name)?.spec), structuredClone(spec));
});
