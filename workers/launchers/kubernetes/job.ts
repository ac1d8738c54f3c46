/** The Job that carries a run, and the Secret with its worker's settings. Pure; both are held against the schema. */
import { z } from 'zod';
import type { RunRequirements } from '../../../src/protocol/requirements.ts';
import type { Job } from '../launcher.ts';

export interface JobTemplate {
  /** Name of the launcher, by which its Jobs are found. */
  readonly launcher: string;
  readonly image: string;
  readonly secretName: string;
  /** A LocalQueue of Kueue. */
  readonly queue: string | undefined;
  readonly resources: JobResources;
  /** The cluster ends a Job after this time, in which waiting counts. */
  readonly limitSeconds: number;
  /** What a worker has to keep its state before it is killed. */
  readonly graceSeconds: number;
  readonly site: Site;
}

export interface JobResources {
  readonly cpus: number;
  readonly memoryGib: number;
  readonly diskGib: number;
  readonly gpus: number;
  /** Such as `nvidia.com/gpu`. */
  readonly gpuResource: string;
}

const anyObject = z.record(z.string(), z.unknown());
const texts = z.record(z.string(), z.string());

/** What a site adds to each Job: where pods may go, and who pays. All else is the launcher's. */
export const siteSchema = z.strictObject({
  labels: texts.default({}),
  annotations: texts.default({}),
  nodeSelector: texts.optional(),
  affinity: anyObject.optional(),
  tolerations: z.array(anyObject).optional(),
  topologySpreadConstraints: z.array(anyObject).optional(),
  priorityClassName: z.string().optional(),
  runtimeClassName: z.string().optional(),
  schedulerName: z.string().optional(),
  imagePullSecrets: z.array(z.strictObject({ name: z.string() })).optional(),
  /** Such as HTTPS_PROXY. Not for secrets: everyone who may read pods reads it. */
  env: texts
    .refine(
      (env) => Object.keys(env).every((name) => !/^(PARAFFIN_|TMPDIR$|NODE_NAME$)/.test(name)),
      'must not set a variable that the launcher sets itself (PARAFFIN_…, TMPDIR, NODE_NAME)',
    )
    .default({}),
});
export type Site = z.infer<typeof siteSchema>;

export const LAUNCHER_LABEL = 'paraffin/launcher';
export const RUN_LABEL = 'paraffin/run';
export const SETTINGS_FILE = 'worker.env';
/** The user "node" of the images. */
const USER_ID = 1000;
/** Long enough to look into the log of a Job on the next morning; then the cluster deletes it. */
const KEPT_SECONDS = 86_400;
/** Of the volume, for copies of stored files; the rest is for the states of the run. */
const CACHE_SHARE = 0.6;
const GIB = 1024 ** 3;

export function jobOf(job: Job, template: JobTemplate): object {
  const { resources, site, queue } = template;
  const labels = {
    ...site.labels,
    'app.kubernetes.io/name': 'paraffin-worker',
    'app.kubernetes.io/managed-by': 'paraffin-launcher',
    [LAUNCHER_LABEL]: template.launcher,
    [RUN_LABEL]: job.runId,
  };
  const { labels: _labels, annotations, env, ...placement } = site;
  return {
    apiVersion: 'batch/v1',
    kind: 'Job',
    metadata: {
      name: job.name,
      labels: { ...labels, ...(queue === undefined ? {} : { 'kueue.x-k8s.io/queue-name': queue }) },
      annotations,
    },
    spec: {
      // The registry tries again, with leases that fence a worker that was presumed dead.
      backoffLimit: 0,
      completions: 1,
      parallelism: 1,
      activeDeadlineSeconds: template.limitSeconds,
      ttlSecondsAfterFinished: KEPT_SECONDS,
      template: {
        metadata: { labels, annotations },
        spec: {
          ...placement,
          restartPolicy: 'Never',
          terminationGracePeriodSeconds: template.graceSeconds,
          // A worker talks to its registry, and never to the cluster.
          automountServiceAccountToken: false,
          enableServiceLinks: false,
          securityContext: {
            runAsNonRoot: true,
            runAsUser: USER_ID,
            runAsGroup: USER_ID,
            // Lets the worker read the Secret: the kubelet adds this group to the file's mode.
            fsGroup: USER_ID,
            fsGroupChangePolicy: 'OnRootMismatch',
            seccompProfile: { type: 'RuntimeDefault' },
          },
          containers: [
            {
              name: 'worker',
              image: template.image,
              command: [
                ...['node', 'bin/paraffin.mjs', 'worker', '--once', '--run', job.runId],
                ...['--settings', `/settings/${SETTINGS_FILE}`],
              ],
              env: [
                ...Object.entries(env).map(([name, value]) => ({ name, value })),
                { name: 'NODE_NAME', valueFrom: { fieldRef: { fieldPath: 'spec.nodeName' } } },
                // The name tells the registry which Job carries the run.
                { name: 'PARAFFIN_WORKER_NAME', value: `${job.name}@$(NODE_NAME)` },
                { name: 'PARAFFIN_DATA_DIR', value: '/data' },
                { name: 'TMPDIR', value: '/data' },
                // A volume that outgrows its limit costs the pod its life.
                { name: 'PARAFFIN_CACHE_BYTES', value: String(Math.floor(resources.diskGib * GIB * CACHE_SHARE)) },
              ],
              resources: quantitiesOf(resources, job.requirements),
              securityContext: {
                allowPrivilegeEscalation: false,
                readOnlyRootFilesystem: true,
                capabilities: { drop: ['ALL'] },
              },
              volumeMounts: [
                { name: 'data', mountPath: '/data' },
                { name: 'settings', mountPath: '/settings', readOnly: true },
              ],
            },
          ],
          volumes: [
            { name: 'data', emptyDir: { sizeLimit: `${resources.diskGib}Gi` } },
            {
              name: 'settings',
              secret: {
                secretName: template.secretName,
                defaultMode: 0o400,
                items: [{ key: SETTINGS_FILE, path: SETTINGS_FILE }],
              },
            },
          ],
        },
      },
    },
  };
}

/**
 * Memory and disk are what is asked for and no more; processors that are free may be used. What the run requires takes
 * the place of what the launcher was told.
 */
function quantitiesOf(
  { cpus, memoryGib, diskGib, gpus, gpuResource }: JobResources,
  { device, memoryMiB }: RunRequirements,
): object {
  const memory = memoryMiB === null ? `${memoryGib}Gi` : `${memoryMiB}Mi`;
  const bounded = { memory, 'ephemeral-storage': `${diskGib}Gi` };
  const gpuCount = device === 'GPU' ? Math.max(1, gpus) : gpus;
  // A device cannot be asked for without being limited.
  const devices = gpuCount === 0 ? {} : { [gpuResource]: String(gpuCount) };
  return { requests: { cpu: String(cpus), ...bounded }, limits: { ...bounded, ...devices } };
}

/** @param settings lines `NAME="value"`. */
export function secretOf(name: string, settings: string) {
  return {
    apiVersion: 'v1',
    kind: 'Secret',
    metadata: { name, labels: { 'app.kubernetes.io/managed-by': 'paraffin-launcher' } },
    type: 'Opaque',
    stringData: { [SETTINGS_FILE]: settings },
  };
}
