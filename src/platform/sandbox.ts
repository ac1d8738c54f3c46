/**
 * The process for a parser of untrusted files: one of our programs in Node, without environment, that opens our code
 * and nothing else (Node's permission model), and from which the kernel takes the network, the sight of other processes
 * and the data directory. The latter by unshare(1), mount(8) and setpriv(1) of util-linux: directly as root, else in a
 * user namespace where the kernel gives one.
 */
import { execFile, spawn, type ChildProcess, type StdioOptions } from 'node:child_process';
import { constants, tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { AS_NOBODY } from './become-nobody.ts';
import { DIES_WITH_PARENT } from './dies-with-parent.ts';

const run = promisify(execFile);

/**
 * ROOT: namespaces of its own; the program has to become an unprivileged user itself (become-nobody.ts), once it has
 * loaded what only root may read. USER: the same in a user namespace, without any capability. NONE: the machine gives
 * no namespaces.
 */
export type SandboxKind = 'ROOT' | 'USER' | 'NONE';

export interface SandboxedProgram {
  /** A TypeScript file. */
  readonly program: string;
  readonly args?: readonly string[];
  /** What of the project it loads beside `src` and its packages, relative to the project's folder. */
  readonly reads?: readonly string[];
  /** The data directory: an empty folder lies over it. */
  readonly hiddenFolder: string;
  readonly nodeFlags?: readonly string[];
  /** JavaScript's own memory. */
  readonly maxHeapMb: number;
  /** All memory of its own, shared libraries aside; default: no limit. The kernel refuses more. */
  readonly maxMemoryMb?: number;
  /** It loads native code, which Node's permission model does not hold: then the kernel alone does. */
  readonly hasNativeCode?: boolean;
  /** The whole environment, beside `SANDBOX_ENV`. */
  readonly env?: Readonly<Record<string, string>>;
  readonly stdio: StdioOptions;
  readonly timeoutMs?: number;
}

const NAMESPACES = ['--net', '--pid', '--mount', '--ipc', '--fork', '--kill-child=SIGKILL'];
/**
 * An empty folder lies over the one that must not be seen, and over /proc, which would show the environment of other
 * processes of the same user. The shell stays as the first process of the namespace, with whose end the kernel ends
 * all others: it keeps the wish to die with its parent, which a process loses when it becomes another user.
 */
const HIDE = `
  ulimit -c 0; [ "$1" = - ] || ulimit -d "$1"
  mount -t tmpfs -o ro,size=4k,mode=0700 tmpfs "$2" && mount -t tmpfs -o ro,size=4k,mode=0555 tmpfs /proc || exit
  shift 2; "$@"; exit "$?"`;
const WITHOUT_NAMESPACES = 'ulimit -c 0; [ "$1" = - ] || ulimit -d "$1"; shift; exec "$@"';
const WITHOUT_NEW_PRIVILEGES = ['setpriv', '--no-new-privs', '--'];
const WITHOUT_CAPABILITIES = ['setpriv', '--bounding-set=-all', '--inh-caps=-all', '--no-new-privs', '--'];
/** For `mount` and similar signals; nothing else of the environment is passed on. */
const PATH = '/usr/sbin:/usr/bin:/sbin:/bin';
/** How a shell says that a signal ended its child. */
const SIGNAL_EXIT_CODE = 128;
const PROJECT_ROOT = path.resolve(import.meta.dirname, '../..');

export const SANDBOX_ENV = { PATH } as const;

/** @returns a command with its arguments, for spawn with `SANDBOX_ENV` in its environment. */
export function sandboxed(
  kind: SandboxKind,
  { hiddenFolder, maxMemoryMb }: Pick<SandboxedProgram, 'hiddenFolder' | 'maxMemoryMb'>,
  command: readonly string[],
): readonly string[] {
  const memoryKb = maxMemoryMb === undefined ? '-' : String(maxMemoryMb * 1024);
  const hide = ['sh', '-c', HIDE, 'sh', memoryKb, hiddenFolder];
  switch (kind) {
    case 'ROOT':
      return [...DIES_WITH_PARENT, 'unshare', ...NAMESPACES, '--', ...hide, ...WITHOUT_NEW_PRIVILEGES, ...command];
    case 'USER':
      return [
        ...[...DIES_WITH_PARENT, 'unshare', '--user', '--map-root-user', ...NAMESPACES, '--'],
        ...[...hide, ...WITHOUT_CAPABILITIES, ...command],
      ];
    case 'NONE':
      return [...DIES_WITH_PARENT, 'sh', '-c', WITHOUT_NAMESPACES, 'sh', memoryKb, ...command];
  }
}

let found: Promise<SandboxKind> | undefined;

/** What this machine gives, asked once. */
export function sandboxKind(): Promise<SandboxKind> {
  found ??= (async () => {
    for (const kind of process.getuid?.() === 0 ? (['ROOT', 'USER'] as const) : (['USER'] as const)) {
      const [command = '', ...args] = sandboxed(kind, { hiddenFolder: tmpdir() }, ['true']);
      const works = await run(command, args, { env: SANDBOX_ENV }).then(
        () => true,
        () => false,
      );
      if (works) return kind;
    }
    return 'NONE';
  })();
  return found;
}

/**
 * Node's flags for a process that loads our program and opens nothing else. The default data directory lies in the
 * project's folder, so that not all of that may be read.
 */
export function readingRights(reads: readonly string[] = []): string[] {
  return [
    '--permission',
    ...['package.json', 'src/*', 'node_modules/*', ...reads].map(
      (part) => `--allow-fs-read=${path.join(PROJECT_ROOT, part)}`,
    ),
    '--disable-warning=ExperimentalWarning',
    '--disable-warning=SecurityWarning',
  ];
}

/** Starts it. SIGKILL ends it with all that it may have started, and so does our own end. */
export async function startSandboxed(options: SandboxedProgram): Promise<ChildProcess> {
  const { program, args = [], nodeFlags = [], reads, maxHeapMb, hasNativeCode, env = {}, stdio, timeoutMs } = options;
  const kind = await sandboxKind();
  const [command = '', ...rest] = sandboxed(kind, options, [
    ...[process.execPath, ...readingRights(reads), ...(hasNativeCode === true ? ['--allow-addons'] : [])],
    ...[...nodeFlags, `--max-old-space-size=${maxHeapMb}`, program, ...args, ...(kind === 'ROOT' ? [AS_NOBODY] : [])],
  ]);
  return spawn(command, rest, {
    env: { ...env, ...SANDBOX_ENV },
    stdio,
    killSignal: 'SIGKILL',
    ...(timeoutMs === undefined ? {} : { timeout: timeoutMs }),
  });
}

/** "SIGSEGV" or "code 1": what ended a process that was started in a sandbox. */
export function endingOf(code: number | null, signal: NodeJS.Signals | null): string {
  if (signal !== null) return signal;
  const name = Object.entries(constants.signals).find(([, number]) => number + SIGNAL_EXIT_CODE === code)?.[0];
  return name ?? `code ${code}`;
}
