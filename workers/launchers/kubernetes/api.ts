/**
 * The calls of the Kubernetes API that a launcher makes, each with what its answers mean. Six calls on three resources
 * do not need a client library: `@kubernetes/client-node` brings sixteen packages, most of them for kubeconfig, exec
 * and watch.
 */
import { z } from 'zod';
import type { ApiRequest, ApiResponse, Connection } from './connection.ts';

const conditionSchema = z.object({
  type: z.string(),
  status: z.string(),
  reason: z.string().optional(),
  message: z.string().optional(),
});
const metadataSchema = z.object({
  name: z.string(),
  uid: z.string(),
  labels: z.record(z.string(), z.string()).optional(),
  deletionTimestamp: z.string().optional(),
});
const jobSchema = z.object({
  metadata: metadataSchema,
  spec: z.object({ suspend: z.boolean().optional() }),
  status: z.object({ conditions: z.array(conditionSchema).optional() }).optional(),
});
const podSchema = z.object({
  metadata: metadataSchema,
  spec: z.object({ nodeName: z.string().optional() }),
  status: z
    .object({
      phase: z.string().optional(),
      reason: z.string().optional(),
      message: z.string().optional(),
      conditions: z.array(conditionSchema).optional(),
      containerStatuses: z
        .array(
          z.object({
            state: z
              .object({
                waiting: z.object({ reason: z.string().optional(), message: z.string().optional() }).optional(),
                terminated: z.object({ exitCode: z.number(), reason: z.string().optional() }).optional(),
              })
              .optional(),
          }),
        )
        .optional(),
    })
    .optional(),
});
const statusSchema = z.object({ reason: z.string().optional(), message: z.string().optional() });

/** What of a Job is read (batch/v1). */
export type ClusterJob = z.infer<typeof jobSchema>;
/** What of a Pod is read (v1). */
export type ClusterPod = z.infer<typeof podSchema>;

/** REFUSED: the server said no, and nothing was done. LOST: nobody knows whether it was done. */
export type Failure =
  | { readonly kind: 'REFUSED'; readonly status: number; readonly code: string; readonly reason: string }
  | { readonly kind: 'LOST'; readonly reason: string };
export type Answer<T> = { readonly kind: 'DONE'; readonly value: T } | Failure;

export interface KubernetesApi {
  readonly namespace: string;
  /** Creates a Job, or only asks whether the cluster would. Fields that it does not know are refused, not dropped. */
  createJob(job: object, options?: { readonly dryRun?: boolean }): Promise<Answer<ClusterJob>>;
  readJob(name: string): Promise<Answer<ClusterJob>>;
  /** All Jobs with this label, read from the majority of the store, so that one just created is among them. */
  listJobs(selector: string): Promise<Answer<readonly ClusterJob[]>>;
  listPods(selector: string): Promise<Answer<readonly ClusterPod[]>>;
  /** Deletes this Job and its pods, which get their time to end; another of the same name stays. */
  deleteJob(name: string, uid: string | undefined, options?: { readonly dryRun?: boolean }): Promise<Answer<undefined>>;
  /** Creates or replaces a Secret (server-side apply). */
  applySecret(
    secret: object & { readonly metadata: { readonly name: string } },
    options?: { readonly dryRun?: boolean },
  ): Promise<Answer<undefined>>;
}

/** Objects of one page of a list. */
const PAGE_SIZE = 500;
const REASON_CHARACTERS_MAX = 400;

export function createKubernetesApi(connection: Connection, namespace: string): KubernetesApi {
  const jobs = `/apis/batch/v1/namespaces/${namespace}/jobs`;
  const core = `/api/v1/namespaces/${namespace}`;
  const ask = async <T>(request: ApiRequest, schema: z.ZodType<T>): Promise<Answer<T>> =>
    answerOf(await connection.send(request), schema);

  const list = async <T>(collection: string, selector: string, item: z.ZodType<T>): Promise<Answer<readonly T[]>> => {
    const page = z.object({
      items: z.array(item),
      metadata: z.object({ continue: z.string().optional() }).optional(),
    });
    const found: T[] = [];
    let next = '';
    do {
      const query = new URLSearchParams({
        labelSelector: selector,
        limit: String(PAGE_SIZE),
        ...(next === '' ? {} : { continue: next }),
      });
      const answer = await ask({ method: 'GET', path: `${collection}?${query}` }, page);
      if (answer.kind !== 'DONE') return answer;
      found.push(...answer.value.items);
      next = answer.value.metadata?.continue ?? '';
    } while (next !== '');
    return { kind: 'DONE', value: found };
  };

  return {
    namespace,
    createJob: (job, { dryRun = false } = {}) =>
      ask({ method: 'POST', path: `${jobs}?fieldValidation=Strict${ifDry(dryRun)}`, body: job }, jobSchema),
    readJob: (name) => ask({ method: 'GET', path: `${jobs}/${name}` }, jobSchema),
    listJobs: (selector) => list(jobs, selector, jobSchema),
    listPods: (selector) => list(`${core}/pods`, selector, podSchema),
    deleteJob: (name, uid, { dryRun = false } = {}) =>
      ask(
        {
          method: 'DELETE',
          path: `${jobs}/${name}?propagationPolicy=Background${ifDry(dryRun)}`,
          body: {
            apiVersion: 'v1',
            kind: 'DeleteOptions',
            propagationPolicy: 'Background',
            ...(uid === undefined ? {} : { preconditions: { uid } }),
          },
        },
        z.unknown().transform(() => undefined),
      ),
    applySecret: (secret, { dryRun = false } = {}) =>
      ask(
        {
          method: 'PATCH',
          path: `${core}/secrets/${secret.metadata.name}?fieldManager=paraffin-launcher&force=true&fieldValidation=Strict${ifDry(dryRun)}`,
          contentType: 'application/apply-patch+yaml',
          body: secret,
        },
        z.unknown().transform(() => undefined),
      ),
  };
}

function ifDry(dryRun: boolean): string {
  return dryRun ? '&dryRun=All' : '';
}

/**
 * Answers that say that nothing was done. 429 and everything from 500 on say less: a gateway may answer for a server
 * that has done it, and an object whose creation timed out may exist.
 */
function isRefusal(status: number): boolean {
  return status >= 400 && status < 500 && status !== 408 && status !== 429;
}

function answerOf<T>(response: ApiResponse, schema: z.ZodType<T>): Answer<T> {
  if (response.kind === 'UNANSWERED') return { kind: 'LOST', reason: response.reason };
  const { status, body } = response;
  if (status >= 200 && status < 300) {
    const parsed = schema.safeParse(body);
    return parsed.success
      ? { kind: 'DONE', value: parsed.data }
      : { kind: 'LOST', reason: `the API server answered ${status} with something else than was asked for` };
  }
  const told = statusSchema.safeParse(body).data;
  const reason = reasonOf(status, told?.message ?? 'no reason was given');
  return isRefusal(status) ? { kind: 'REFUSED', status, code: told?.reason ?? '', reason } : { kind: 'LOST', reason };
}

/** What the server said, and what a person can do about it. */
function reasonOf(status: number, message: string): string {
  const said = message.trim().slice(0, REASON_CHARACTERS_MAX);
  if (status === 401) return `401: ${said}; the token of the launcher is not valid, or has expired`;
  if (status === 403 && !/quota|admission/i.test(said))
    return `403: ${said}; the launcher's role lacks this right (docker/kubernetes/base/launcher/role.yaml has them)`;
  return `${status}: ${said}`;
}
