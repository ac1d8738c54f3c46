/** The objects that are sent to Kubernetes, held against its published schema, and what its Jobs and pods say. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { z } from 'zod';
import { nameOfPlacement } from '../../src/modules/placements/placements.rules.ts';
import { NO_REQUIREMENTS } from '../../src/protocol/requirements.ts';
import { jobOf, secretOf, siteSchema, type JobTemplate } from '../../workers/launchers/kubernetes/job.ts';
import { sightOf } from '../../workers/launchers/kubernetes/states.ts';
import { faultsOfNames } from '../support/kubernetes-api.ts';
import { faultsOfObject } from '../support/kubernetes-schema.ts';
import { at } from '../support/catalogue.ts';

const RUN = '0198a7c2-7c1e-7f00-8000-3b1f0c9a5d11';
const job = { name: nameOfPlacement(RUN, 1234), runId: RUN, requirements: NO_REQUIREMENTS, secondsLeft: null };
const template: JobTemplate = {
  launcher: 'kubernetes',
  image: 'registry.example:5000/lab/paraffin-worker@sha256:0f',
  secretName: 'paraffin-worker-kubernetes',
  queue: undefined,
  resources: { cpus: 2.5, memoryGib: 8, diskGib: 50, gpus: 0, gpuResource: 'nvidia.com/gpu' },
  limitSeconds: 86_400,
  graceSeconds: 120,
  site: siteSchema.parse({}),
};
const faultsOf = (object: unknown): readonly string[] => [...faultsOfObject(object), ...faultsOfNames(object)];

describe('the Job of a run', () => {
  test('is valid for Kubernetes, with and without a GPU, a queue and what a site adds', () => {
    const site = siteSchema.parse({
      labels: { 'lab.example/cost-centre': 'pathology' },
      annotations: { note: 'übernommen' },
      nodeSelector: { pool: 'gpu' },
      affinity: { nodeAffinity: { requiredDuringSchedulingIgnoredDuringExecution: { nodeSelectorTerms: [] } } },
      tolerations: [{ key: 'nvidia.com/gpu', operator: 'Exists', effect: 'NoSchedule' }],
      topologySpreadConstraints: [
        { maxSkew: 1, topologyKey: 'kubernetes.io/hostname', whenUnsatisfiable: 'ScheduleAnyway' },
      ],
      priorityClassName: 'batch',
      runtimeClassName: 'nvidia',
      schedulerName: 'volcano',
      imagePullSecrets: [{ name: 'registry' }],
      env: { HTTPS_PROXY: 'http://proxy.example:3128' },
    });
    const resources = { ...template.resources, gpus: 2 };
    for (const each of [template, { ...template, site, resources, queue: 'lab-queue' }])
      assert.deepEqual(faultsOf(jobOf(job, each)), []);
    const rich = jobOf(job, { ...template, site, resources, queue: 'lab-queue' });
    assert.equal(
      z.record(z.string(), z.string()).parse(at(rich, 'spec.template.spec.containers.0.resources.limits'))[
        'nvidia.com/gpu'
      ],
      '2',
    );
    assert.equal(
      z.record(z.string(), z.string()).parse(at(rich, 'metadata.labels'))['kueue.x-k8s.io/queue-name'],
      'lab-queue',
    );
  });

  test('asks for what the run requires in place of what the launcher was told', () => {
    const requirements = { ...NO_REQUIREMENTS, device: 'GPU', memoryMiB: 12_288 } as const;
    const object = jobOf({ ...job, requirements }, template);
    assert.deepEqual(faultsOf(object), []);
    const limits = at(object, 'spec.template.spec.containers.0.resources.limits');
    assert.deepEqual(limits, { memory: '12288Mi', 'ephemeral-storage': '50Gi', 'nvidia.com/gpu': '1' });
  });

  test('starts one pod at most, ends by its deadline, and is deleted afterwards', () => {
    const object = jobOf(job, template);
    const facts = z
      .object({
        backoffLimit: z.literal(0),
        completions: z.literal(1),
        parallelism: z.literal(1),
        activeDeadlineSeconds: z.literal(86_400),
        ttlSecondsAfterFinished: z.number().positive(),
        template: z.object({
          spec: z.object({ restartPolicy: z.literal('Never'), terminationGracePeriodSeconds: z.literal(120) }),
        }),
      })
      .safeParse(at(object, 'spec'));
    assert.ok(facts.success, String(facts.error));
  });

  test('runs as nobody special: no root, no capability, no token of the cluster, one writable volume', () => {
    const pod = at(jobOf(job, template), 'spec.template.spec');
    assert.equal(at(pod, 'automountServiceAccountToken'), false);
    assert.equal(at(pod, 'securityContext.runAsNonRoot'), true);
    assert.equal(at(pod, 'securityContext.seccompProfile.type'), 'RuntimeDefault');
    assert.deepEqual(at(pod, 'containers.0.securityContext'), {
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ['ALL'] },
    });
    const mounts = z
      .array(z.object({ mountPath: z.string(), readOnly: z.boolean().optional() }))
      .parse(at(pod, 'containers.0.volumeMounts'));
    assert.deepEqual(
      mounts.flatMap(({ mountPath, readOnly }) => (readOnly === true ? [] : [mountPath])),
      ['/data'],
    );
    assert.equal(at(pod, 'volumes.1.secret.defaultMode'), 0o400);
  });

  test('gives its worker the name by which the registry knows the job, on the node where it runs', () => {
    const env = z
      .array(z.object({ name: z.string(), value: z.string().optional() }))
      .parse(at(jobOf(job, template), 'spec.template.spec.containers.0.env'));
    const names = env.map(({ name }) => name);
    // Kubernetes replaces $(NODE_NAME) only by a variable that comes before it.
    assert.ok(names.indexOf('NODE_NAME') < names.indexOf('PARAFFIN_WORKER_NAME'));
    assert.equal(env.find(({ name }) => name === 'PARAFFIN_WORKER_NAME')?.value, `${job.name}@$(NODE_NAME)`);
    const cacheBytes = Number(env.find(({ name }) => name === 'PARAFFIN_CACHE_BYTES')?.value);
    assert.ok(cacheBytes > 0 && cacheBytes < 50 * 1024 ** 3, 'the copies of stored files fit into the volume');
  });

  test('that is misspelled, or of the wrong type, is refused by the schema', () => {
    const wrong = z.record(z.string(), z.unknown()).parse(structuredClone(jobOf(job, template)));
    assert.deepEqual(faultsOf({ ...wrong, specs: {} }), [': Unrecognized key: "specs"']);
    const spec = z.record(z.string(), z.unknown()).parse(wrong['spec']);
    assert.match(faultsOf({ ...wrong, spec: { ...spec, backoffLimit: '0' } }).join(), /^spec\.backoffLimit: /);
    assert.match(faultsOf({ ...wrong, metadata: { name: 'Paraffin_1' } }).join(), /is not a DNS label/);
    assert.match(faultsOf({ ...wrong, metadata: { name: 'x', labels: { run: 'a b' } } }).join(), /is not a label/);
  });
});

test('the Secret is valid, and holds the settings as one file', () => {
  const secret = secretOf('paraffin-worker-kubernetes', 'PARAFFIN_API_KEY="pfn_x"\n');
  assert.deepEqual(faultsOf(secret), []);
  assert.deepEqual(secret.stringData, { 'worker.env': 'PARAFFIN_API_KEY="pfn_x"\n' });
});

test("a site may not set what is the launcher's", () => {
  for (const site of [
    { restartPolicy: 'Always' },
    { containers: [] },
    { serviceAccountName: 'admin' },
    { env: { PARAFFIN_API_KEY: 'x' } },
    { env: { TMPDIR: '/tmp' } },
    { nodeSelector: { pool: 1 } },
  ])
    assert.equal(siteSchema.safeParse(site).success, false, JSON.stringify(site));
});

describe('a Job is seen', () => {
  const metadata = { name: 'j', uid: 'u1' };
  const plain = { metadata, spec: {} };
  const podWith = (status: Parameters<typeof sightOf>[1][number]['status'], deletionTimestamp?: string) => ({
    metadata: { name: 'j-abcde', uid: 'u2', ...(deletionTimestamp === undefined ? {} : { deletionTimestamp }) },
    spec: { nodeName: 'node7' },
    status,
  });
  const failed = (reason: string) => ({
    ...plain,
    status: { conditions: [{ type: 'Failed', status: 'True', reason, message: 'said so' }] },
  });
  const ended = (reason: string, exitCode = 1) =>
    podWith({ phase: 'Failed', containerStatuses: [{ state: { terminated: { exitCode, reason } } }] });
  const disrupted = (reason: string) =>
    podWith({ phase: 'Failed', conditions: [{ type: 'DisruptionTarget', status: 'True', reason }] });

  const cases: readonly [string, Parameters<typeof sightOf>[0], Parameters<typeof sightOf>[1], string][] = [
    [
      'suspended by a queue',
      { ...plain, spec: { suspend: true } },
      [],
      'WAITING Suspended: not yet admitted by its queue',
    ],
    ['without a pod', plain, [], 'WAITING Pending: no pod yet; "kubectl describe job j" says why'],
    [
      'that nobody has a place for',
      plain,
      [
        podWith({
          phase: 'Pending',
          conditions: [{ type: 'PodScheduled', status: 'False', reason: 'Unschedulable', message: '0/5 nodes' }],
        }),
      ],
      'WAITING Unschedulable: 0/5 nodes',
    ],
    [
      'whose image is not there',
      plain,
      [
        podWith({
          phase: 'Pending',
          conditions: [{ type: 'PodScheduled', status: 'True' }],
          containerStatuses: [{ state: { waiting: { reason: 'ImagePullBackOff', message: 'not found' } } }],
        }),
      ],
      'WAITING ImagePullBackOff: not found',
    ],
    ['that runs', plain, [podWith({ phase: 'Running' })], 'RUNNING Running: node7'],
    ['that ends', plain, [podWith({ phase: 'Running' }, '2026-11-30T00:00:00Z')], 'RUNNING Terminating: node7'],
    ['on a node that does not answer', plain, [podWith({ phase: 'Unknown' })], 'RUNNING Unknown: node7'],
    ['whose pod ended before it', plain, [podWith({ phase: 'Failed' })], 'RUNNING Failed: node7'],
    [
      'that is complete',
      { ...plain, status: { conditions: [{ type: 'Complete', status: 'True' }] } },
      [],
      'ENDED Complete',
    ],
    ['past its deadline', failed('DeadlineExceeded'), [], 'ENDED DeadlineExceeded: said so'],
    ['out of memory', failed('BackoffLimitExceeded'), [ended('OOMKilled', 137)], 'ENDED OOMKilled: on node7'],
    ['that failed', failed('BackoffLimitExceeded'), [ended('Error', 6)], 'ENDED Failed: exit code 6 on node7'],
    [
      'preempted',
      failed('BackoffLimitExceeded'),
      [disrupted('PreemptionByScheduler')],
      'ENDED PreemptionByScheduler: on node7',
    ],
    [
      'evicted for its disk',
      failed('BackoffLimitExceeded'),
      [podWith({ phase: 'Failed', reason: 'Evicted', message: 'emptyDir exceeds the limit' })],
      'ENDED Evicted: emptyDir exceeds the limit',
    ],
    ['whose pod was deleted', failed('BackoffLimitExceeded'), [], 'ENDED BackoffLimitExceeded: said so'],
    [
      'with a condition that is not true',
      { ...plain, status: { conditions: [{ type: 'Failed', status: 'False' }] } },
      [podWith({ phase: 'Running' })],
      'RUNNING Running: node7',
    ],
  ];
  for (const [name, seenJob, pods, expected] of cases)
    test(name, () => {
      const { externalId, phase, schedulerState, reason } = sightOf(seenJob, pods);
      assert.equal(externalId, 'u1');
      assert.equal([`${phase} ${schedulerState}`, ...(reason === null ? [] : [reason])].join(': '), expected);
    });
});
