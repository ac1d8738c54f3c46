/** Child processes with a deadline. */
import { spawn } from 'node:child_process';
import path from 'node:path';

export interface Command {
  readonly program: string;
  readonly args: readonly string[];
  /** In addition to the environment of this process. */
  readonly env?: Readonly<Record<string, string>>;
  readonly timeoutMs: number;
}

/** The standard output of the command. @throws Error with the end of its stderr if it fails or exceeds the deadline. */
export async function run({ program, args, env, timeoutMs }: Command): Promise<string> {
  const child = spawn(program, [...args], {
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
    signal: AbortSignal.timeout(timeoutMs),
    killSignal: 'SIGKILL',
  });
  const output: Buffer[] = [];
  let faults = '';
  child.stdout.on('data', (chunk: Buffer) => output.push(chunk));
  child.stderr.on('data', (chunk: Buffer) => {
    faults = (faults + chunk.toString()).slice(-1000);
  });
  const { promise, resolve, reject } = Promise.withResolvers<number | null>();
  child.once('error', reject);
  child.once('close', resolve);
  const exitCode = await promise.catch((cause: unknown) => {
    throw new Error(`${path.basename(program)} could not run to its end within ${timeoutMs / 1000} s.`, { cause });
  });
  if (exitCode !== 0)
    throw new Error(`${path.basename(program)} ${args.slice(0, 1).join('')} ended with ${exitCode}: ${faults.trim()}`);
  return Buffer.concat(output).toString();
}
