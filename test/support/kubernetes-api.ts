/**
 * A stand-in for a Kubernetes API server that keeps Jobs, Pods and Secrets of one namespace. It refuses every object
 * that Kubernetes' published schema or its rules on names refuse, and does what the Job controller does for a Job with
 * `backoffLimit: 0`. It is not a cluster: nothing runs.
 */
import assert from 'node:assert/strict';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';
import { z } from 'zod';
import { faultsOfObject } from './kubernetes-schema.ts';

const NAMESPACE = 'lab';

const objectSchema = z.looseObject({
  metadata: z.looseObject({ name: z.string(), labels: z.record(z.string(), z.string()).default({}) }),
});
const jobSchema = objectSchema.extend({
  spec: z.looseObject({
    suspend: z.boolean().optional(),
    template: z.looseObject({
      metadata: z.looseObject({ labels: z.record(z.string(), z.string()) }),
      spec: z.looseObject({
        restartPolicy: z.enum(['Never', 'OnFailure']),
        containers: z.array(z.looseObject({ volumeMounts: z.array(z.looseObject({ name: z.string() })).default([]) })),
        volumes: z.array(z.looseObject({ name: z.string() })).default([]),
      }),
    }),
  }),
});

export interface StandInJob extends z.infer<typeof jobSchema> {
  metadata: z.infer<typeof objectSchema>['metadata'] & { uid: string };
  status: { conditions: Record<string, unknown>[] };
}
export interface StandInPod {
  readonly metadata: Record<string, unknown> & { readonly name: string; readonly labels: Record<string, string> };
  readonly spec: Record<string, unknown>;
  status: Record<string, unknown>;
}

export interface StandIn {
  readonly url: string;
  readonly namespace: string;
  readonly jobs: Map<string, StandInJob>;
  readonly pods: Map<string, StandInPod>;
  /** As sent. */
  readonly secrets: Map<string, unknown>;
  /** Such as `POST /apis/batch/v1/namespaces/lab/jobs?fieldValidation=Strict`, with its authorization. */
  readonly requests: string[];
  /** What becomes of requests; undefined: they work. A number is a status; LOSE does the work and cuts the line. */
  trouble: 'AWAY' | 'LOSE' | 'HTML' | number | undefined;
  /** Requests whose method and resource are among these are answered 403, such as `POST jobs`. */
  readonly forbidden: Set<string>;
  /** If set, only this bearer token is accepted. */
  token: string | undefined;
  /** Objects on one page of a list. */
  pageSize: number;
  /** True: no pod is made for a new Job, as with a quota that is used up. */
  isWithoutPods: boolean;
  /** Changes the pod of a Job; a pod that failed fails the Job, one that succeeded completes it. */
  changePod(jobName: string, status: Record<string, unknown>): void;
  /** The pod is gone, as after `kubectl delete pod`, PodGC or the taint manager. */
  deletePod(jobName: string): void;
  close(): Promise<void>;
}

export async function startStandIn(): Promise<StandIn> {
  let created = 0;
  const http = createServer((request, response) => {
    answer(request, response).catch((error: unknown) => {
      // A fault of the stand-in itself, such as an object that the schema refuses, must not pass for an answer.
      response.writeHead(599).end(String(error));
      process.exitCode = 1;
      throw error;
    });
  });
  await new Promise<void>((resolve) => http.listen(0, '127.0.0.1', resolve));
  const { port } = z.custom<AddressInfo>((value) => typeof value === 'object').parse(http.address());

  const endJob = (name: string, type: 'Complete' | 'Failed', reason: string): void => {
    const job = standIn.jobs.get(name);
    if (job === undefined || job.status.conditions.length > 0) return;
    const at = new Date().toISOString();
    job.status.conditions.push({
      type,
      status: 'True',
      reason,
      message: type === 'Failed' ? 'Job has reached the specified backoff limit' : 'Reached expected number of pods',
      lastProbeTime: at,
      lastTransitionTime: at,
    });
  };
  const standIn: StandIn = {
    url: `http://127.0.0.1:${port}`,
    namespace: NAMESPACE,
    jobs: new Map(),
    pods: new Map(),
    secrets: new Map(),
    requests: [],
    trouble: undefined,
    forbidden: new Set(),
    token: undefined,
    pageSize: 500,
    isWithoutPods: false,
    changePod: (jobName, status) => {
      const pod = standIn.pods.get(jobName);
      assert.ok(pod !== undefined, `${jobName} has no pod`);
      pod.status = status;
      if (status['phase'] === 'Failed') endJob(jobName, 'Failed', 'BackoffLimitExceeded');
      if (status['phase'] === 'Succeeded') endJob(jobName, 'Complete', 'CompletionsReached');
    },
    deletePod: (jobName) => {
      standIn.pods.delete(jobName);
      endJob(jobName, 'Failed', 'BackoffLimitExceeded');
    },
    close: () =>
      new Promise((resolve) => {
        http.close(() => resolve());
        http.closeAllConnections();
      }),
  };

  const createJob = (body: unknown, isDry: boolean): Result => {
    const faults = [...faultsOfObject(body), ...faultsOfNames(body)];
    if (faults.length > 0) return failure(422, 'Invalid', `Job.batch is invalid: ${faults.join('; ')}`);
    const job = jobSchema.parse(body);
    const { name } = job.metadata;
    if (standIn.jobs.has(name)) return failure(409, 'AlreadyExists', `jobs.batch "${name}" already exists`);
    const { containers, volumes } = job.spec.template.spec;
    const missing = containers
      .flatMap(({ volumeMounts }) => volumeMounts)
      .filter((mount) => !volumes.some((volume) => volume.name === mount.name));
    if (missing.length > 0) return failure(422, 'Invalid', `volumeMounts: Not found: "${missing[0]?.name}"`);
    created += 1;
    const uid = `00000000-0000-4000-8000-${String(created).padStart(12, '0')}`;
    const kept: StandInJob = { ...job, metadata: { ...job.metadata, uid }, status: { conditions: [] } };
    if (isDry) return { status: 201, body: kept };
    standIn.jobs.set(name, kept);
    if (!standIn.isWithoutPods && job.spec.suspend !== true)
      standIn.pods.set(name, {
        metadata: {
          name: `${name}-abcde`,
          uid: uid.replace('4000', '4001'),
          labels: { ...job.spec.template.metadata.labels, 'job-name': name, 'batch.kubernetes.io/job-name': name },
        },
        spec: { ...job.spec.template.spec },
        status: { phase: 'Pending' },
      });
    return { status: 201, body: kept };
  };

  const deleteJob = (name: string, body: unknown, isDry: boolean): Result => {
    assert.deepEqual(faultsOfObject(body), []);
    const wanted = z
      .object({ preconditions: z.object({ uid: z.string() }).optional(), propagationPolicy: z.literal('Background') })
      .parse(body).preconditions?.uid;
    const job = standIn.jobs.get(name);
    if (job === undefined) return failure(404, 'NotFound', `jobs.batch "${name}" not found`);
    if (wanted !== undefined && wanted !== job.metadata.uid)
      return failure(409, 'Conflict', 'the UID in the precondition does not match');
    if (!isDry) {
      standIn.jobs.delete(name);
      standIn.pods.delete(name);
    }
    return { status: 200, body: { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Success' } };
  };

  const list = (kind: 'Job' | 'Pod', query: URLSearchParams): Result => {
    const [key = '', value = ''] = (query.get('labelSelector') ?? '').split('=');
    const all = [...(kind === 'Job' ? standIn.jobs : standIn.pods).values()]
      .filter(({ metadata }) => metadata.labels[key] === value)
      .map((item) => ({ apiVersion: kind === 'Job' ? 'batch/v1' : 'v1', kind, ...item }));
    const start = Number(query.get('continue') ?? 0);
    const end = start + Math.min(standIn.pageSize, Number(query.get('limit') ?? Infinity));
    const body = {
      apiVersion: kind === 'Job' ? 'batch/v1' : 'v1',
      kind: `${kind}List`,
      metadata: end < all.length ? { continue: String(end) } : {},
      items: all.slice(start, end),
    };
    // What the tests put into pods is held against the schema too.
    assert.deepEqual(faultsOfObject(body), []);
    return { status: 200, body };
  };

  const handle = (method: string, url: URL, body: unknown): Result => {
    const [, resource = '', name] = /\/namespaces\/lab\/(jobs|pods|secrets)(?:\/([^/]+))?$/.exec(url.pathname) ?? [];
    const isDry = url.searchParams.get('dryRun') === 'All';
    if (standIn.forbidden.has(`${method} ${resource}`))
      return failure(403, 'Forbidden', `${resource} is forbidden: User "launcher" cannot do that in "lab"`);
    switch (`${method} ${resource}${name === undefined ? '' : ' NAME'}`) {
      case 'POST jobs':
        assert.equal(url.searchParams.get('fieldValidation'), 'Strict');
        return createJob(body, isDry);
      case 'GET jobs':
        return list('Job', url.searchParams);
      case 'GET pods':
        return list('Pod', url.searchParams);
      case 'GET jobs NAME': {
        const job = standIn.jobs.get(name ?? '');
        return job === undefined ? failure(404, 'NotFound', 'not found') : { status: 200, body: job };
      }
      case 'DELETE jobs NAME':
        return deleteJob(name ?? '', body, isDry);
      case 'PATCH secrets NAME': {
        const faults = [...faultsOfObject(body), ...faultsOfNames(body)];
        if (faults.length > 0) return failure(422, 'Invalid', faults.join('; '));
        if (!isDry) standIn.secrets.set(name ?? '', body);
        return { status: 200, body: { apiVersion: 'v1', kind: 'Secret', metadata: { name } } };
      }
      default:
        return failure(404, 'NotFound', 'the server could not find the requested resource');
    }
  };

  const answer = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const { method = '', url: address = '' } = request;
    const url = new URL(address, standIn.url);
    const raw = await text(request);
    const { authorization } = request.headers;
    standIn.requests.push(`${method} ${address}${authorization === undefined ? '' : ` ${authorization}`}`);
    const { trouble } = standIn;
    if (trouble === 'AWAY') return void request.socket.destroy();
    if (trouble === 'HTML') return void response.writeHead(502).end('<html>Bad Gateway</html>');
    const result =
      typeof trouble === 'number'
        ? failure(trouble, 'Trouble', `the server answers ${trouble} today`)
        : standIn.token !== undefined && authorization !== `Bearer ${standIn.token}`
          ? failure(401, 'Unauthorized', 'Unauthorized')
          : handle(method, url, raw === '' ? undefined : JSON.parse(raw));
    if (trouble === 'LOSE') return void request.socket.destroy();
    response.writeHead(result.status, { 'content-type': 'application/json' }).end(JSON.stringify(result.body));
  };
  return standIn;
}

interface Result {
  readonly status: number;
  readonly body: unknown;
}

function failure(status: number, reason: string, message: string): Result {
  const body = { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Failure', message, reason, code: status };
  assert.deepEqual(faultsOfObject(body), []);
  return { status, body };
}

/** Rules that the schema does not write down (kubernetes.io/docs/concepts/overview/working-with-objects). */
export function faultsOfNames(value: unknown): string[] {
  const faults: string[] = [];
  const name = objectSchema.safeParse(value).data?.metadata.name ?? '';
  if (!/^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/.test(name)) faults.push(`metadata.name: "${name}" is not a DNS label`);
  const visit = (node: unknown, path: string): void => {
    if (typeof node !== 'object' || node === null) return;
    for (const [key, each] of Object.entries(node)) {
      const here = `${path}.${key}`;
      if (['labels', 'nodeSelector', 'matchLabels', 'commonLabels'].includes(key))
        faults.push(...faultsOfLabels(each, here));
      if (['requests', 'limits'].includes(key)) faults.push(...faultsOfQuantities(each, here));
      visit(each, here);
    }
  };
  visit(value, '');
  return faults;
}

const LABEL_VALUE = /^(([A-Za-z0-9][-A-Za-z0-9_.]{0,61})?[A-Za-z0-9])?$/;
const LABEL_KEY = /^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?\/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$/;
const QUANTITY = /^\d+(\.\d+)?(m|k|Ki|M|Mi|G|Gi|T|Ti)?$/;

function faultsOfLabels(labels: unknown, path: string): string[] {
  return Object.entries(z.record(z.string(), z.string()).catch({}).parse(labels)).flatMap(([key, value]) =>
    LABEL_KEY.test(key) && LABEL_VALUE.test(value) ? [] : [`${path}: "${key}=${value}" is not a label`],
  );
}

function faultsOfQuantities(quantities: unknown, path: string): string[] {
  return Object.entries(z.record(z.string(), z.unknown()).catch({}).parse(quantities)).flatMap(([key, value]) =>
    QUANTITY.test(String(value)) ? [] : [`${path}.${key}: "${String(value)}" is not a quantity`],
  );
}
