/**
 * What the kernel takes from a process that parses untrusted files, beside Node's permission model: the network, the
 * sight of other processes, and the data directory. By unshare(1), mount(8) and setpriv(1) of util-linux: directly as
 * root, else in a user namespace where the kernel gives one.
 */
import { execFile } from 'node:child_process';
import { tmpdir } from 'node:os';
import { promisify } from 'node:util';

const run = promisify(execFile);

/**
 * ROOT: namespaces of its own; the program has to become an unprivileged user itself (`becomeNobody`), once it has
 * loaded what only root may read. USER: the same in a user namespace, without any capability. NONE: the machine gives
 * no namespaces.
 */
export type SandboxKind = 'ROOT' | 'USER' | 'NONE';

const NAMESPACES = ['--net', '--pid', '--mount', '--ipc', '--fork', '--kill-child=SIGKILL'];
/** An empty folder lies over the one that must not be seen. */
const HIDE = 'mount -t tmpfs -o ro,size=4k,mode=0700 tmpfs "$1" && shift && exec "$@"';
const WITHOUT_CAPABILITIES = ['setpriv', '--bounding-set=-all', '--inh-caps=-all', '--no-new-privs', '--'];
/** For `mount` and similar signals; nothing else of the environment is passed on. */
const PATH = '/usr/sbin:/usr/bin:/sbin:/bin';
/** Debian's `nobody`. */
const NOBODY = 65_534;

/** @returns a program with its arguments, for spawn with `SANDBOX_ENV` in its environment. */
export function sandboxed(
  kind: SandboxKind,
  hiddenFolder: string,
  program: string,
  args: readonly string[],
): [string, string[]] {
  const hide = ['sh', '-c', HIDE, 'sh', hiddenFolder];
  switch (kind) {
    case 'ROOT':
      return ['unshare', [...NAMESPACES, '--', ...hide, program, ...args]];
    case 'USER':
      return [
        'unshare',
        ['--user', '--map-root-user', ...NAMESPACES, '--', ...hide, ...WITHOUT_CAPABILITIES, program, ...args],
      ];
    case 'NONE':
      return [program, [...args]];
  }
}

export const SANDBOX_ENV = { PATH } as const;

let found: Promise<SandboxKind> | undefined;

/** What this machine gives, asked once. */
export function sandboxKind(): Promise<SandboxKind> {
  found ??= (async () => {
    for (const kind of process.getuid?.() === 0 ? (['ROOT', 'USER'] as const) : (['USER'] as const)) {
      const [program, args] = sandboxed(kind, tmpdir(), 'true', []);
      const works = await run(program, args, { env: SANDBOX_ENV }).then(
        () => true,
        () => false,
      );
      if (works) return kind;
    }
    return 'NONE';
  })();
  return found;
}

/** For a program in a sandbox of kind ROOT, before it reads a byte: no right stays that others have not. */
export function becomeNobody(): void {
  process.setgroups?.([]);
  process.setgid?.(NOBODY);
  process.setuid?.(NOBODY);
}
