/** The launchers, one for each kind of cluster. */
import { childEnvironmentWithoutSecrets, workerSettings } from '../../src/env.ts';
import { UnreachableCaseError } from '../../src/errors.ts';
import type { LauncherOptions } from '../../src/protocol/launcher-options.ts';
import { openKubernetes } from './kubernetes/open.ts';
import type { Launcher } from './launcher.ts';
import { openSlurm } from './slurm/open.ts';

/**
 * @param key for the workers, as for the launcher itself.
 * @throws LauncherFault for options with which no job can be placed.
 */
export async function openLauncher(options: LauncherOptions, key: string): Promise<Launcher> {
  const { cluster } = options;
  const settings = { ...workerSettings(), PARAFFIN_URL: options.url, PARAFFIN_API_KEY: key };
  switch (cluster.kind) {
    case 'SLURM':
      return openSlurm({ options, cluster, settings: linesOf(settings), env: childEnvironmentWithoutSecrets({}) });
    case 'KUBERNETES': {
      // Folders of this machine mean nothing in a pod, which has a volume of its own.
      const portable = Object.entries(settings).filter(([name]) => !/_DIR$|_BYTES$/.test(name));
      return openKubernetes({ options, cluster, settings: linesOf(Object.fromEntries(portable)) });
    }
    default:
      throw new UnreachableCaseError(cluster);
  }
}

function linesOf(settings: Readonly<Record<string, string>>): string {
  return Object.entries(settings)
    .map(([name, value]) => `${name}=${JSON.stringify(value)}\n`)
    .join('');
}
