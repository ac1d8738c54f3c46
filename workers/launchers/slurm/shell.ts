/**
 * Runs Slurm's commands on this machine, or on a login node through ssh. Never a shell of ours in between, and never a
 * question to a person: a launcher runs without a terminal.
 */
import { execFile, type ExecFileException } from 'node:child_process';

export interface Output {
  readonly stdout: string;
  readonly stderr: string;
  /** Null if the command was killed, or could not be started or reached: then it may or may not have done its work. */
  readonly exitCode: number | null;
}

export interface Shell {
  run(
    command: readonly [string, ...string[]],
    options?: { readonly input?: string; readonly timeoutMs?: number },
  ): Promise<Output>;
}

export interface ShellOptions {
  /** `user@host` of a login node; undefined: this machine. */
  readonly sshHost?: string | undefined;
  /** ControlPath of a connection that a person opened; undefined: that of her ssh configuration. */
  readonly sshControlPath?: string | undefined;
}

const TIMEOUT_MS = 60_000;
const OUTPUT_BYTES_MAX = 64_000_000;
/** The exit code of ssh itself: the host was not reached, and nothing is known of the command. */
const SSH_FAILED = 255;

/** Reuses the connection that a person has opened, and opens none: BatchMode never asks for a password. */
export function sshArguments({ sshHost = '', sshControlPath }: ShellOptions): string[] {
  return [
    '-o',
    'BatchMode=yes',
    '-o',
    'ControlMaster=no',
    '-o',
    'ServerAliveInterval=15',
    ...(sshControlPath === undefined ? [] : ['-o', `ControlPath=${sshControlPath}`]),
    '--',
    sshHost,
  ];
}

/** One word for a POSIX shell, which ssh starts on the other side. */
export function quoted(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}

export function createShell(options: ShellOptions, baseEnv: Readonly<Record<string, string>>): Shell {
  // Options of Slurm in the environment of the launcher would change every job: SBATCH_PARTITION, SQUEUE_FORMAT. And
  // sbatch stores its environment and hands it to the job, so no secret may be in it.
  const env = Object.fromEntries(
    Object.entries(baseEnv).filter(
      ([name]) =>
        !/^(SBATCH|SALLOC|SRUN|SQUEUE|SACCT|SCANCEL)_|^SLURM_(?!CONF$)|SECRET|TOKEN|PASSWORD|API_KEY|DATABASE_URL/.test(
          name,
        ),
    ),
  );
  return {
    run: ([program, ...args], { input = '', timeoutMs = TIMEOUT_MS } = {}) => {
      const isRemote = options.sshHost !== undefined;
      const file = isRemote ? 'ssh' : program;
      const words = isRemote ? [...sshArguments(options), [program, ...args].map(quoted).join(' ')] : args;
      return new Promise((resolve) => {
        const child = execFile(
          file,
          words,
          { env, timeout: timeoutMs, killSignal: 'SIGKILL', maxBuffer: OUTPUT_BYTES_MAX, encoding: 'utf8' },
          (error, stdout, stderr) => {
            if (error === null) {
              resolve({ stdout, stderr, exitCode: 0 });
              return;
            }
            // Only a number is the exit code of the command.
            const isEnded = typeof error.code === 'number' && !(isRemote && error.code === SSH_FAILED);
            resolve({
              stdout,
              stderr: isEnded || stderr.trim() !== '' ? stderr : reasonOf(error, file, timeoutMs),
              exitCode: isEnded ? Number(error.code) : null,
            });
          },
        );
        // A command that ends before it has read everything closes the pipe.
        child.stdin?.on('error', () => undefined);
        child.stdin?.end(input);
      });
    },
  };
}

/** Why a command that printed nothing has no exit code. */
function reasonOf(error: ExecFileException, program: string, timeoutMs: number): string {
  if (error.code === 'ENOENT') return `the command ${program} was not found on this machine`;
  return error.killed === true ? `${program} did not answer within ${timeoutMs / 1000} s` : error.message;
}
