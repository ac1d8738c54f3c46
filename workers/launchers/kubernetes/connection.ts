/**
 * Requests to a Kubernetes API server: from inside the cluster with the service account of the pod, or from outside
 * through `kubectl proxy`, which knows every way to sign in. So no kubeconfig is read here.
 */
import { readFile } from 'node:fs/promises';
import { request as requestHttp } from 'node:http';
import { request as requestHttps } from 'node:https';
import path from 'node:path';
import { text } from 'node:stream/consumers';

export interface Connection {
  send(request: ApiRequest): Promise<ApiResponse>;
}

export interface ApiRequest {
  readonly method: 'GET' | 'POST' | 'PATCH' | 'DELETE';
  /** With its query. */
  readonly path: string;
  readonly body?: object;
  /** Default: `application/json`. */
  readonly contentType?: string;
}

export type ApiResponse =
  | { readonly kind: 'ANSWERED'; readonly status: number; readonly body: unknown }
  /** No answer came: the request may have been carried out. */
  | { readonly kind: 'UNANSWERED'; readonly reason: string };

export interface ConnectionOptions {
  readonly url: string;
  /** Folder with `token` and `ca.crt`; undefined: neither is sent nor needed. */
  readonly accountFolder: string | undefined;
  readonly timeoutMs?: number;
}

/** Where a pod finds its service account. */
export const ACCOUNT_FOLDER = '/var/run/secrets/kubernetes.io/serviceaccount';
/** A name that every cluster's DNS resolves. */
export const IN_CLUSTER_URL = 'https://kubernetes.default.svc';
const TIMEOUT_MS = 30_000;

export function openConnection({ url, accountFolder, timeoutMs = TIMEOUT_MS }: ConnectionOptions): Connection {
  return {
    send: async ({ method, path: address, body, contentType = 'application/json' }) => {
      const payload = body === undefined ? undefined : JSON.stringify(body);
      try {
        // Read each time: the kubelet renews a token long before it expires.
        const account = accountFolder === undefined ? undefined : await readAccount(accountFolder);
        const target = new URL(address, url);
        const send = target.protocol === 'https:' ? requestHttps : requestHttp;
        return await new Promise((resolve, reject) => {
          const request = send(
            target,
            {
              method,
              headers: {
                accept: 'application/json',
                // The length is said, because Node sends the body of a DELETE without one, which nobody reads.
                ...(payload === undefined
                  ? {}
                  : { 'content-type': contentType, 'content-length': Buffer.byteLength(payload) }),
                ...(account === undefined ? {} : { authorization: `Bearer ${account.token}` }),
              },
              signal: AbortSignal.timeout(timeoutMs),
              ...(account === undefined ? {} : { ca: account.authority }),
            },
            (response) => {
              text(response).then(
                (answer) => resolve({ kind: 'ANSWERED', status: response.statusCode ?? 0, body: parseJson(answer) }),
                reject,
              );
            },
          );
          request.on('error', reject);
          request.end(payload);
        });
      } catch (error) {
        return { kind: 'UNANSWERED', reason: `${url}: ${error instanceof Error ? error.message : String(error)}` };
      }
    },
  };
}

async function readAccount(folder: string): Promise<{ readonly token: string; readonly authority: string }> {
  const [token, authority] = await Promise.all(
    ['token', 'ca.crt'].map((name) => readFile(path.join(folder, name), 'utf8')),
  );
  return { token: (token ?? '').trim(), authority: authority ?? '' };
}

/** A proxy in between answers with HTML. */
function parseJson(answer: string): unknown {
  try {
    return JSON.parse(answer);
  } catch {
    return undefined;
  }
}
