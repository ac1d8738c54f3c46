/** Opens the launcher of a Slurm cluster from the options of the command line. */
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import type { LauncherOptions, SlurmOptions } from '../../../src/protocol/launcher-options.ts';
import { LauncherFault, type Launcher } from '../launcher.ts';
import { createSlurm } from './index.ts';
import { createShell, type Shell } from './shell.ts';

export interface SlurmParts {
  readonly options: LauncherOptions;
  readonly cluster: SlurmOptions;
  /** Lines for the workers, to be kept from everyone else. */
  readonly settings: string;
  /** For the commands of Slurm. */
  readonly env: Readonly<Record<string, string>>;
}

/** @throws LauncherFault */
export async function openSlurm({ options, cluster, settings, env }: SlurmParts): Promise<Launcher> {
  const shell = createShell(cluster, env);
  return createSlurm({
    shell,
    template: {
      text: options.template === undefined ? '' : await readTemplate(options.template),
      paraffin: cluster.paraffin,
      settingsFile: cluster.settings ?? (await writeSettings(cluster, settings, shell)),
      logFolder: cluster.folder,
      warnSeconds: options.warnSeconds,
    },
  });
}

async function readTemplate(file: string): Promise<string> {
  return readFile(file, 'utf8').catch((error: unknown) => {
    throw new LauncherFault(
      `The template ${file} cannot be read: ${error instanceof Error ? error.message : String(error)}.`,
      { cause: error },
    );
  });
}

/**
 * Hands over what `paraffin worker` needs, in a file that only its owner may read: neither a command line nor an
 * environment, which schedulers store and show. The file is replaced as a whole, because a job may read it now.
 */
async function writeSettings({ folder, sshHost }: SlurmOptions, text: string, remote: Shell): Promise<string> {
  const file = path.posix.join(folder, 'worker.env');
  if (sshHost === undefined) {
    const unfinished = `${file}.new`;
    try {
      await mkdir(folder, { recursive: true, mode: 0o700 });
      // A file that exists would keep its mode.
      await rm(unfinished, { force: true });
      await writeFile(unfinished, text, { mode: 0o600, flag: 'wx' });
      await rename(unfinished, file);
    } catch (error) {
      throw new LauncherFault(
        `The folder ${folder} cannot be written: ${error instanceof Error ? error.message : String(error)}.`,
        { cause: error },
      );
    }
    return file;
  }
  const replacement =
    'umask 077 && mkdir -p "$1" && cd "$1" && rm -f worker.env.new && cat > worker.env.new && mv -f worker.env.new worker.env';
  const written = await remote.run(['sh', '-c', replacement, 'sh', folder], { input: text });
  if (written.exitCode !== 0)
    throw new LauncherFault(
      `The login node ${sshHost} cannot be used: ${written.stderr.trim()} A launcher never asks for a password: open the connection first, with "ssh -M ${sshHost}".`,
    );
  return file;
}
