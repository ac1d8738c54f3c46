/** Information from the kernel about our processes. */
import { fork, type ChildProcess } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import path from 'node:path';
import { childEnvironment } from '../../src/env.ts';
import { artifactVariables } from './artifact-place.ts';
import { openWorkerDoor } from './worker-door.ts';

/** Of proc_pid_stat(5): Linux reports 100 to every program. */
const CLOCK_TICKS_PER_SECOND = 100;

/** Pids of the living children of a process; a zombie does not count. */
export async function childrenOf(parentPid: number): Promise<number[]> {
  return (await childrenByParent()).get(parentPid) ?? [];
}

/** The process and everything that it started, itself first. */
export async function familyOf(pid: number): Promise<number[]> {
  const children = await childrenByParent();
  const family = [pid];
  for (const each of family) family.push(...(children.get(each) ?? []));
  return family;
}

/** One pass over all processes: a pass for each member of a family would load the machine that a caller measures. */
async function childrenByParent(): Promise<ReadonlyMap<number, number[]>> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name)).map(Number);
  const children = new Map<number, number[]>();
  for (const [pid, found] of await Promise.all(pids.map(async (each) => [each, await parentAndState(each)] as const)))
    if (found !== undefined) children.set(found.parentPid, [...(children.get(found.parentPid) ?? []), pid]);
  return children;
}

export async function isAlive(pid: number): Promise<boolean> {
  return (await parentAndState(pid)) !== undefined;
}

/**
 * An identity that no later process has, although the kernel reuses pids: the pid and the start time since boot, in
 * clock ticks. Undefined for a process that has ended.
 */
export async function identityOf(pid: number): Promise<string | undefined> {
  const fields = await statFieldsOf(pid);
  return fields === undefined ? undefined : `${pid} of ${fields[19]}`;
}

/** Of the process alone, on all cores; undefined for one that has ended. */
export async function processorTimeOf(pid: number): Promise<{ identity: string; processorMs: number } | undefined> {
  const fields = await statFieldsOf(pid);
  if (fields === undefined) return undefined;
  const ticks = Number(fields[11]) + Number(fields[12]);
  return { identity: `${pid} of ${fields[19]}`, processorMs: (1000 * ticks) / CLOCK_TICKS_PER_SECOND };
}

/** The id of the process group that a terminal's Ctrl-C reaches; for a group leader it is its own pid. */
export async function processGroupOf(pid: number): Promise<number | undefined> {
  return (await parentAndState(pid))?.groupId;
}

async function parentAndState(pid: number): Promise<{ parentPid: number; groupId: number } | undefined> {
  const fields = await statFieldsOf(pid);
  return fields === undefined ? undefined : { parentPid: Number(fields[1]), groupId: Number(fields[2]) };
}

/** The fields of proc_pid_stat(5) from the third on, the state; undefined for a process that has ended. */
async function statFieldsOf(pid: number): Promise<readonly string[] | undefined> {
  const line = statLineOf(pid);
  // The name in brackets may contain any character, so the fields are read after the last bracket.
  const fields = line.slice(line.lastIndexOf(')') + 2).split(' ');
  const [state = ''] = fields;
  return state === '' || state === 'Z' || state === 'X' ? undefined : fields;
}

/** Empty for a process that has ended. Read at once: it is memory, and a thread for each process costs far more. */
function statLineOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/stat`, 'utf8');
  } catch {
    return '';
  }
}

export interface TestWorker {
  readonly pid: number;
  /** Resolves with the exit code and the signal. */
  readonly gone: Promise<{ readonly code: number | null; readonly signal: NodeJS.Signals | null }>;
  signal(name: 'SIGTERM' | 'SIGKILL'): void;
}

/** The worker as a separate process that waits for runs. */
export async function startTestWorker(options: {
  readonly databaseUrl: string;
  readonly dataDir: string;
  readonly name: string;
  /** Receives the log at the level error; by default only fatal errors are printed. */
  readonly onLog?: (text: string) => void;
}): Promise<TestWorker> {
  const door = await openWorkerDoor(options);
  const child: ChildProcess = fork(path.resolve(import.meta.dirname, '../../workers/main.ts'), ['--beside-server'], {
    env: childEnvironment({
      PARAFFIN_URL: door.url,
      PARAFFIN_API_KEY: door.key,
      PARAFFIN_DATA_DIR: options.dataDir,
      ...artifactVariables(options.dataDir),
      PARAFFIN_WORKER_NAME: options.name,
      PARAFFIN_LOG_LEVEL: options.onLog === undefined ? 'fatal' : 'error',
    }),
    stdio: ['ignore', 'inherit', options.onLog === undefined ? 'inherit' : 'pipe', 'ipc'],
  });
  child.stderr?.setEncoding('utf8').on('data', (text: string) => options.onLog?.(text));
  const gone = new Promise<{ code: number | null; signal: NodeJS.Signals | null }>((resolve) =>
    child.on('exit', (code, signal) => void door.close().finally(() => resolve({ code, signal }))),
  );
  await new Promise<void>((resolve, reject) => {
    child.once('message', () => resolve());
    child.once('error', reject);
    gone.then(({ code, signal }) => reject(new Error(`The worker ended at its start: ${code ?? signal}.`)), reject);
  });
  const { pid } = child;
  if (pid === undefined) throw new Error('The worker has no pid.');
  return { pid, gone, signal: (name) => void child.kill(name) };
}
