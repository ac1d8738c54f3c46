/**
 * Sandbox for parsers of untrusted files: runs one of our programs in Node, without an inherited environment. Node's
 * permission model lets it open only our code, and the kernel hides the network, other processes and the data directory
 * from it. The isolation by the kernel uses unshare(1), mount(8) and setpriv(1) of util-linux: directly as root, else
 * in a user namespace if the kernel allows one.
 */
import { execFile, spawn, type ChildProcess, type StdioOptions } from 'node:child_process';
import { constants, tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { DROP_PRIVILEGES } from './drop-privileges.ts';
import { PARENT_DEATH_SIGNAL } from './parent-death-signal.ts';

const run = promisify(execFile);

/**
 * ROOT: separate namespaces; the program must itself switch to an unprivileged user (drop-privileges.ts) after loading
 * files that only root can read. USER: the same in a user namespace, without any capability. NONE: the machine allows
 * no namespaces.
 */
export type SandboxKind = 'ROOT' | 'USER' | 'NONE';

export interface SandboxedProgram {
  /** Default: what this machine supports. Tests set a weaker kind to check the isolation that remains. */
  readonly kind?: SandboxKind;
  /** A TypeScript file. */
  readonly program: string;
  readonly args?: readonly string[];
  /** Paths of the project that it loads in addition to `src` and its packages, relative to the project's folder. */
  readonly reads?: readonly string[];
  /** The data directory, which an empty folder hides. */
  readonly hiddenFolder: string;
  /**
   * An inherited descriptor of `stdio` that is a folder: the program sees it at `shownFolderPath`, to read, even if it
   * is below the hidden folder or below one that the unprivileged user may not enter. For the program itself, and for
   * libraries that take paths.
   */
  readonly shownDescriptor?: number;
  readonly nodeFlags?: readonly string[];
  /** Limit of the JavaScript heap. */
  readonly maxHeapMb: number;
  /** Limit of all private memory, without shared libraries, enforced by the kernel; default: no limit. */
  readonly maxMemoryMb?: number;
  /**
   * The program loads native code, which Node's permission model does not restrict; only the kernel's isolation then
   * applies.
   */
  readonly hasNativeCode?: boolean;
  /** The complete environment, in addition to `SANDBOX_ENV`. */
  readonly env?: Readonly<Record<string, string>>;
  readonly stdio: StdioOptions;
  readonly timeoutMs?: number;
  /**
   * The exit code of the program is written to descriptor 3, a pipe of `stdio`, and the process that wraps the program
   * stays until it is killed. For a caller that runs TensorFlow's kernels, which no signal may interrupt
   * (workers/child-process.ts), because the death of a child sends SIGCHLD. The option has no effect without namespaces
   * and setpriv(1).
   */
  readonly reportsExit?: boolean;
}

const NAMESPACES = ['--net', '--pid', '--mount', '--ipc', '--fork', '--kill-child=SIGKILL'];
/**
 * Mounts an empty folder over the hidden folder and over /proc, which would show the environment of other processes of
 * the same user. A shown folder is mounted into the empty /proc, read-only: by its path, because a mount through a
 * descriptor of another mount namespace is refused, and then compared with the descriptor. It has the strictest flags,
 * because a user namespace may not drop one that the file system is mounted with. The shell remains as the
 * first process of the namespace: when it ends, the kernel ends all others. It keeps the parent-death signal, which a
 * process loses when it switches to another user.
 */
const HIDE = `
  ulimit -c 0; [ "$1" = - ] || ulimit -d "$1"
  if [ "$3" = - ]
  then mount -t tmpfs -o ro,size=4k,mode=0555 tmpfs /proc || exit
  else
    place=$(readlink "/proc/self/fd/$3") && id=$(stat -Lc %d:%i "/proc/self/fd/$3") || exit
    mount -t tmpfs -o size=4k,mode=0555 tmpfs /proc && mkdir /proc/shown && mount --bind "$place" /proc/shown || exit
    [ "$(stat -c %d:%i /proc/shown)" = "$id" ] || exit
    mount -o remount,bind,ro,nosuid,nodev,noexec /proc/shown && mount -o remount,ro /proc || exit
  fi
  mount -t tmpfs -o ro,size=4k,mode=0700 tmpfs "$2" || exit
  shift 3`;
const WITHOUT_NAMESPACES = 'ulimit -c 0; [ "$1" = - ] || ulimit -d "$1"; shift';
const AND_END = '; "$@"; exit "$?"';
const IN_PLACE = '; exec "$@"';
const AND_REPORT_EXIT = '; "$@" 3>&-; echo "$?" >&3; exec sleep 2147483647';
const WITHOUT_NEW_PRIVILEGES = ['setpriv', '--no-new-privs', '--'];
const WITHOUT_CAPABILITIES = ['setpriv', '--bounding-set=-all', '--inh-caps=-all', '--no-new-privs', '--'];
/** PATH for `mount` and similar tools; no other variable of the environment is passed on. */
const PATH = '/usr/sbin:/usr/bin:/sbin:/bin';
/** Offset of the exit code with which a shell reports that a signal ended its child. */
const SIGNAL_EXIT_CODE = 128;
const PROJECT_ROOT = path.resolve(import.meta.dirname, '../..');

export const SANDBOX_ENV = { PATH } as const;

/** @returns a command with its arguments, for spawn with `SANDBOX_ENV` in its environment. */
export function sandboxed(
  kind: SandboxKind,
  {
    hiddenFolder,
    maxMemoryMb,
    reportsExit = false,
    shownDescriptor,
  }: Pick<SandboxedProgram, 'hiddenFolder' | 'maxMemoryMb' | 'reportsExit' | 'shownDescriptor'>,
  command: readonly string[],
): readonly string[] {
  const memoryKb = maxMemoryMb === undefined ? '-' : String(maxMemoryMb * 1024);
  const shown = shownDescriptor === undefined ? '-' : String(shownDescriptor);
  const hide = ['sh', '-c', `${HIDE}${reportsExit ? AND_REPORT_EXIT : AND_END}`, 'sh', memoryKb, hiddenFolder, shown];
  switch (kind) {
    case 'ROOT':
      return [...PARENT_DEATH_SIGNAL, 'unshare', ...NAMESPACES, '--', ...hide, ...WITHOUT_NEW_PRIVILEGES, ...command];
    case 'USER':
      return [
        ...[...PARENT_DEATH_SIGNAL, 'unshare', '--user', '--map-root-user', ...NAMESPACES, '--'],
        ...[...hide, ...WITHOUT_CAPABILITIES, ...command],
      ];
    case 'NONE': {
      // Without a PID namespace the program does not end with its wrapper, so it gets a parent-death signal too.
      const isWrapped = reportsExit && PARENT_DEATH_SIGNAL.length > 0;
      const script = `${WITHOUT_NAMESPACES}${isWrapped ? AND_REPORT_EXIT : IN_PLACE}`;
      const inner = isWrapped ? [...PARENT_DEATH_SIGNAL, ...command] : command;
      return [...PARENT_DEATH_SIGNAL, 'sh', '-c', script, 'sh', memoryKb, ...inner];
    }
  }
}

/** Where the sandboxed program sees the folder of this descriptor. */
export function shownFolderPath(kind: SandboxKind, shownDescriptor: number): string {
  return kind === 'NONE' ? `/proc/self/fd/${shownDescriptor}` : '/proc/shown';
}

/** From the most isolation to the least. */
export const SANDBOX_KINDS = ['ROOT', 'USER', 'NONE'] as const satisfies readonly SandboxKind[];

/** Whether this machine supports this isolation, found by trying it. */
export async function supportsSandbox(kind: SandboxKind): Promise<boolean> {
  if (kind === 'ROOT' && process.getuid?.() !== 0) return false;
  const [command = '', ...args] = sandboxed(kind, { hiddenFolder: tmpdir() }, ['true']);
  return run(command, args, { env: SANDBOX_ENV }).then(
    () => true,
    () => false,
  );
}

let found: Promise<SandboxKind> | undefined;

/** The isolation that this machine supports, determined once. */
export function sandboxKind(): Promise<SandboxKind> {
  found ??= (async () => {
    for (const kind of SANDBOX_KINDS) if (await supportsSandbox(kind)) return kind;
    return 'NONE';
  })();
  return found;
}

/**
 * Node's flags for a process that can open only our program's files. The default data directory is inside the project's
 * folder, so the process must not be allowed to read the whole folder.
 */
export function readPermissionFlags(reads: readonly string[] = []): string[] {
  return [
    '--permission',
    ...['package.json', 'src/*', 'node_modules/*', ...reads].map(
      (part) => `--allow-fs-read=${path.join(PROJECT_ROOT, part)}`,
    ),
    '--disable-warning=ExperimentalWarning',
    '--disable-warning=SecurityWarning',
  ];
}

/**
 * Starts the sandboxed process. SIGKILL ends it and all processes that it started, and so does the end of this process.
 */
export async function startSandboxed(options: SandboxedProgram): Promise<ChildProcess> {
  const { program, args = [], nodeFlags = [], reads, maxHeapMb, hasNativeCode, env = {}, stdio, timeoutMs } = options;
  const { kind = await sandboxKind(), shownDescriptor } = options;
  const [command = '', ...rest] = sandboxed(kind, options, [
    ...[process.execPath, ...readPermissionFlags(reads), ...(hasNativeCode === true ? ['--allow-addons'] : [])],
    ...(shownDescriptor === undefined ? [] : [`--allow-fs-read=${shownFolderPath(kind, shownDescriptor)}/*`]),
    ...[
      ...nodeFlags,
      `--max-old-space-size=${maxHeapMb}`,
      program,
      ...args,
      ...(kind === 'ROOT' ? [DROP_PRIVILEGES] : []),
    ],
  ]);
  return spawn(command, rest, {
    env: { ...env, ...SANDBOX_ENV },
    stdio,
    killSignal: 'SIGKILL',
    ...(timeoutMs === undefined ? {} : { timeout: timeoutMs }),
  });
}

/** Describes how a sandboxed process ended: "SIGSEGV" or "code 1". */
export function endingOf(code: number | null, signal: NodeJS.Signals | null): string {
  if (signal !== null) return signal;
  const name = Object.entries(constants.signals).find(([, number]) => number + SIGNAL_EXIT_CODE === code)?.[0];
  return name ?? `code ${code}`;
}
