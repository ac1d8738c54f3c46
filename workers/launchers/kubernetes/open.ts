/** Opens the launcher of a cluster from the options of the command line. */
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';
import type { KubernetesOptions, LauncherOptions } from '../../../src/protocol/launcher-options.ts';
import { LauncherFault, type Launcher } from '../launcher.ts';
import { createKubernetesApi } from './api.ts';
import { ACCOUNT_FOLDER, IN_CLUSTER_URL, openConnection } from './connection.ts';
import { createKubernetes } from './index.ts';
import { secretOf, siteSchema, type Site } from './job.ts';

export interface KubernetesParts {
  readonly options: LauncherOptions;
  readonly cluster: KubernetesOptions;
  /** Lines for the workers, to be kept from everyone else. */
  readonly settings: string;
  /** Where the pod of the launcher has its service account. */
  readonly accountFolder?: string;
}

/** @throws LauncherFault */
export async function openKubernetes(parts: KubernetesParts): Promise<Launcher> {
  const { options, cluster, settings, accountFolder = ACCOUNT_FOLDER } = parts;
  const isInside = cluster.apiUrl === undefined;
  const namespace = cluster.namespace ?? (isInside ? await ownNamespace(accountFolder) : undefined);
  if (namespace === undefined)
    throw new LauncherFault('From outside a cluster, --namespace says where the Jobs belong.');
  const api = createKubernetesApi(
    openConnection({
      url: cluster.apiUrl ?? IN_CLUSTER_URL,
      accountFolder: isInside ? accountFolder : undefined,
    }),
    namespace,
  );
  const secretName = cluster.settings ?? `paraffin-worker-${options.name}`;
  const site = await readSite(options.template);
  if (cluster.settings === undefined) {
    const written = await api.applySecret(secretOf(secretName, settings), { dryRun: options.checkOnly });
    if (written.kind !== 'DONE')
      throw new LauncherFault(
        `The Secret ${secretName} with the settings of the workers cannot be written in the namespace ${namespace}: ${written.reason}. With "--settings NAME" the workers use a Secret that you have made.`,
      );
  }
  return createKubernetes({
    api,
    template: {
      launcher: options.name,
      image: cluster.image,
      secretName,
      queue: cluster.queue,
      resources: cluster,
      limitSeconds: cluster.limitSeconds,
      graceSeconds: options.warnSeconds,
      site,
    },
  });
}

async function ownNamespace(accountFolder: string): Promise<string> {
  return readFile(path.join(accountFolder, 'namespace'), 'utf8').then(
    (text) => text.trim(),
    () => {
      throw new LauncherFault(
        'This program does not run in a pod with a service account. From outside, start "kubectl proxy" and add "--api http://127.0.0.1:8001 --namespace NAME".',
      );
    },
  );
}

async function readSite(file: string | undefined): Promise<Site> {
  if (file === undefined) return siteSchema.parse({});
  let value: unknown;
  try {
    value = JSON.parse(await readFile(file, 'utf8'));
  } catch (error) {
    throw new LauncherFault(
      `The template ${file} cannot be read: ${error instanceof Error ? error.message : String(error)}.`,
      { cause: error },
    );
  }
  const parsed = siteSchema.safeParse(value);
  if (!parsed.success) throw new LauncherFault(`The template ${file} is not valid:\n${z.prettifyError(parsed.error)}`);
  return parsed.data;
}
