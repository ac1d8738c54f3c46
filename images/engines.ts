/** Docker, podman or buildah, whichever works here, behind one interface: build an image, start it, look at it. */
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { open, readFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import { z } from 'zod';
import { familyOf } from '../test/support/processes.ts';

const execute = promisify(execFile);
const OUTPUT_BYTES_MAX = 64_000_000;
/** What a container has to end by itself; then it is killed. */
const STOP_MS = 60_000;

export interface Build {
  readonly dockerfile: string;
  readonly context: string;
  readonly tag: string;
  readonly base: string | undefined;
  readonly logFile: string;
}

export interface Start {
  readonly image: string;
  /** Mounted at /data, to be written to by every user. */
  readonly volume: string;
  /** Folders to read only, by their place in the container. */
  readonly mounts?: Readonly<Record<string, string>>;
  readonly env: Readonly<Record<string, string>>;
  /** Default: the command of the image. */
  readonly command?: readonly string[];
  readonly logFile: string;
}

export interface ContainerProcess {
  readonly userId: number;
  /** Effective capabilities, as the kernel writes them; undefined where the engine does not show them. */
  readonly capabilities: string | undefined;
  readonly command: string;
}

export interface Container {
  processes(): Promise<readonly ContainerProcess[]>;
  /** Runs a command with the image's user, volume and environment. @returns its standard output. */
  execute(...command: readonly string[]): Promise<string>;
  /** Files outside the volume that were written since the start. */
  strayFiles(): Promise<readonly string[]>;
  isRunning(): Promise<boolean>;
  stop(): Promise<void>;
}

export interface ContainerEngine {
  /** Such as "buildah version 1.28.2 (…)". */
  readonly version: string;
  /** How containers are kept apart, in words. */
  readonly isolation: string;
  build(build: Build): Promise<void>;
  /** Makes an image of a folder's archive. */
  importArchive(archive: string, tag: string, env: Readonly<Record<string, string>>): Promise<void>;
  byteSizeOf(tag: string): Promise<number>;
  start(start: Start): Promise<Container>;
}

export const ENGINE_NAMES = ['docker', 'podman', 'buildah'] as const;
export type EngineName = (typeof ENGINE_NAMES)[number];

/** @returns the engine, or a sentence that says why it cannot be used: its program alone is not enough. */
export async function openEngine(name: EngineName): Promise<ContainerEngine | string> {
  try {
    const version = (await run(name, ['--version'])).trim();
    if (name === 'buildah') {
      await run(name, ['info']);
      return createBuildah(version);
    }
    await run(name, ['info']);
    return createDockerLike(name, version);
  } catch (error) {
    return `${name}: ${firstLineOf(error)}`;
  }
}

function firstLineOf(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  return /ENOENT/.test(text) ? 'is not installed' : (text.trim().split('\n').at(-1) ?? text);
}

async function run(program: string, args: readonly string[]): Promise<string> {
  return (await execute(program, args, { maxBuffer: OUTPUT_BYTES_MAX })).stdout;
}

/** Runs a long command with its output in a file. @throws Error that names the file. */
async function runLogged(program: string, args: readonly string[], logFile: string): Promise<void> {
  const log = await open(logFile, 'a');
  try {
    const child = spawn(program, args, { stdio: ['ignore', log.fd, log.fd] });
    const [code] = z.tuple([z.number().nullable(), z.unknown()]).parse(await once(child, 'exit'));
    if (code !== 0) throw new Error(`"${program} ${args.slice(0, 2).join(' ')} …" failed; see ${logFile}.`);
  } finally {
    await log.close();
  }
}

function createDockerLike(program: 'docker' | 'podman', version: string): ContainerEngine {
  return {
    version,
    isolation: 'namespaces, no capabilities, read-only root',
    build: ({ dockerfile, context, tag, base, logFile }) =>
      runLogged(program, ['build', '--file', dockerfile, '--tag', tag, ...baseArgument(base), context], logFile),
    importArchive: async (archive, tag, env) => {
      const changes = Object.entries(env).flatMap(([name, value]) => ['--change', `ENV ${name}=${value}`]);
      await run(program, ['import', ...changes, archive, tag]);
    },
    byteSizeOf: async (tag) => Number((await run(program, ['image', 'inspect', '--format', '{{.Size}}', tag])).trim()),
    start: async ({ image, volume, mounts = {}, env, command = [], logFile }) => {
      const id = (
        await run(program, [
          ...['run', '--detach', '--read-only', '--cap-drop', 'ALL', '--security-opt', 'no-new-privileges'],
          ...['--network', 'host', '--volume', `${volume}:/data`],
          ...Object.entries(mounts).flatMap(([place, folder]) => ['--volume', `${folder}:${place}:ro`]),
          ...Object.entries(env).flatMap(([name, value]) => ['--env', `${name}=${value}`]),
          image,
          ...command,
        ])
      ).trim();
      return {
        processes: async () => {
          const rows = (await run(program, ['top', id, '-eo', 'uid,args'])).trim().split('\n').slice(1);
          return rows.map((row) => {
            const [, userId = '-1', words = ''] = /^\s*(\S+)\s+(.*)$/.exec(row) ?? [];
            return { userId: Number(userId), capabilities: undefined, command: words };
          });
        },
        execute: (...words) => run(program, ['exec', id, ...words]),
        strayFiles: async () =>
          (await run(program, ['diff', id]))
            .split('\n')
            .filter((line) => /^A /.test(line))
            .map((line) => line.slice(2))
            .filter((file) => file !== '/data'),
        isRunning: async () =>
          (await run(program, ['inspect', '--format', '{{.State.Running}}', id])).trim() === 'true',
        stop: async () => {
          await run(program, ['stop', '--time', String(STOP_MS / 1000), id]).catch(() => undefined);
          await execute('sh', ['-c', `${program} logs ${id} >> '${logFile}' 2>&1`]).catch(() => undefined);
          await run(program, ['rm', '--force', id]);
        },
      };
    },
  };
}

/** buildah builds without a daemon, and with chroot isolation also inside a container that allows no namespaces. */
function createBuildah(version: string): ContainerEngine {
  const isolated = ['--isolation', 'chroot'];
  return {
    version,
    isolation: 'chroot, no capabilities',
    build: ({ dockerfile, context, tag, base, logFile }) =>
      runLogged(
        'buildah',
        [
          // OCI's format has no health check. The limit of open files of the caller may be one that chroot cannot set.
          ...['bud', ...isolated, '--format', 'docker', '--ulimit', 'nofile=1024:1024'],
          ...['--file', dockerfile, '--tag', tag, ...baseArgument(base), context],
        ],
        logFile,
      ),
    importArchive: async (archive, tag, env) => {
      const id = (await run('buildah', ['from', 'scratch'])).trim();
      await run('buildah', ['add', '--quiet', id, archive, '/']);
      await run('buildah', [
        'config',
        ...Object.entries(env).flatMap(([name, value]) => ['--env', `${name}=${value}`]),
        id,
      ]);
      await run('buildah', ['commit', '--quiet', '--rm', id, tag]);
    },
    byteSizeOf: async (tag) => {
      const images = z
        .array(z.object({ id: z.string() }))
        .parse(JSON.parse(await run('buildah', ['images', '--json', tag])));
      const id = (await run('buildah', ['from', tag])).trim();
      try {
        const root = (await run('buildah', ['mount', id])).trim();
        if (images.length === 0) throw new Error(`The image ${tag} does not exist.`);
        return Number((await run('du', ['--summarize', '--bytes', '--one-file-system', root])).split('\t')[0]);
      } finally {
        await run('buildah', ['rm', id]);
      }
    },
    start: async ({ image, volume, mounts = {}, env, command, logFile }) => {
      const id = (await run('buildah', ['from', image])).trim();
      const root = (await run('buildah', ['mount', id])).trim();
      const config = z
        .object({ Docker: z.object({ config: z.object({ Cmd: z.array(z.string()) }) }) })
        .parse(JSON.parse(await run('buildah', ['inspect', '--type', 'image', image])));
      const words = command ?? config.Docker.config.Cmd;
      const runArguments = [
        ...['run', ...isolated, '--cap-drop', 'all', '--volume', `${volume}:/data`],
        ...Object.entries(mounts).flatMap(([place, folder]) => ['--volume', `${folder}:${place}:ro`]),
        ...Object.entries(env).flatMap(([name, value]) => ['--env', `${name}=${value}`]),
        id,
        '--',
      ];
      const startedAt = new Date();
      const log = await open(logFile, 'a');
      const child = spawn('buildah', [...runArguments, ...words], { stdio: ['ignore', log.fd, log.fd] });
      const gone = once(child, 'exit');
      await log.close();
      return {
        processes: async () => (await processesOf(child.pid ?? 0)).map(({ pid: _pid, ...seen }) => seen),
        execute: (...other) => run('buildah', [...runArguments, ...other]),
        strayFiles: async () =>
          (
            await run('find', [
              ...[root, '-xdev', '-not', '-type', 'd', '-newermt', startedAt.toISOString()],
              // Written by the engine itself for each command that it starts.
              ...['-not', '-path', `${root}/etc/resolv.conf`, '-not', '-path', `${root}/etc/hosts`],
              ...['-not', '-path', `${root}/run/.containerenv`],
            ])
          )
            .split('\n')
            .flatMap((file) => (file === '' ? [] : [file.slice(root.length)])),
        isRunning: () => Promise.resolve(child.exitCode === null && child.signalCode === null),
        stop: async () => {
          // The first process of the image is told, as an engine's "stop" does; it ends the others.
          const [first] = await processesOf(child.pid ?? 0);
          if (first !== undefined) process.kill(first.pid, 'SIGTERM');
          const killing = setTimeout(() => {
            processesOf(child.pid ?? 0).then(
              (left) => left.forEach(({ pid }) => process.kill(pid, 'SIGKILL')),
              () => undefined,
            );
          }, STOP_MS);
          await gone;
          clearTimeout(killing);
          await run('buildah', ['rm', id]);
        },
      };
    },
  };
}

/** What a command of buildah started, the oldest first, without buildah's own processes. */
async function processesOf(pid: number): Promise<(ContainerProcess & { readonly pid: number })[]> {
  const seen = await Promise.all(
    (await familyOf(pid)).map(async (each) => {
      const status = await readFile(`/proc/${each}/status`, 'utf8').catch(() => '');
      const command = await readFile(`/proc/${each}/cmdline`, 'utf8').catch(() => '');
      const [, userId = '-1'] = /^Uid:\s+\d+\s+(\d+)/m.exec(status) ?? [];
      const [, capabilities] = /^CapEff:\s+(\S+)/m.exec(status) ?? [];
      return command === '' || command.startsWith('buildah')
        ? []
        : [{ pid: each, userId: Number(userId), capabilities, command: command.replaceAll('\0', ' ').trim() }];
    }),
  );
  return seen.flat();
}

function baseArgument(base: string | undefined): string[] {
  return base === undefined ? [] : ['--build-arg', `BASE=${base}`];
}
