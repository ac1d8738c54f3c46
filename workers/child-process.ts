/** Starts and ends the process of one run, or of a part of one. */
import { fork } from 'node:child_process';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { childEnvironmentWithoutSecrets } from '../src/env.ts';
import type { Logger } from '../src/logger.ts';
import { PARENT_DEATH_SIGNAL } from '../src/platform/parent-death-signal.ts';
import { engineLibraryEnv } from '../src/platform/engine/installed.ts';
import { childMessageSchema, type AgentMessage, type StartMessage, type StopReason } from './child-protocol.ts';
import type { Device } from './devices.ts';
import { ENGINE_PROCESS_ENV, PLAIN_CPU_ENV } from './engine/process-env.ts';
import { IMPORT_HEAP_FLAGS } from './imaging/import-heap.ts';
import type { ClaimedPart, ClaimedRun } from '../src/protocol/worker-calls.ts';

export interface ChildSettings {
  /** The registry's URL. */
  readonly url: string;
  readonly dataDir: string;
  /** The folder of the registry's artifacts, if this machine shares it. */
  readonly artifactsDir: string | null;
  readonly cacheDir: string;
  readonly cacheBytes: number;
  readonly workDir: string;
  readonly logLevel: string;
  readonly codeRevision: string | null;
}

export interface ChildEnd {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  /** True when the child wrote the run's outcome itself. */
  readonly settled: boolean;
  /** The end of its output. */
  readonly stderrTail: string;
}

export interface Child {
  readonly ended: Promise<ChildEnd>;
  askToStop(reason: StopReason): void;
  /** False while it starts: until then ending it at once loses nothing. */
  hasBegun(): boolean;
  /** How long it has held unsaved progress; undefined if everything is saved. */
  unsavedForMs(): number | undefined;
  /** Time since it last made progress. */
  silentForMs(): number;
  kill(): void;
  /**
   * Kills the child after a delay unless it exits first: its lease has ended, or it has settled the run and is exiting.
   */
  killAfterDelay(): void;
}

const STDERR_TAIL_LENGTH = 4_000;
/** How every line of our logger begins. */
const LOG_ENTRY = '{"level":';
const KILL_DELAY_MS = 3_000;

/** Node with this process's options, started by a wrapper that ends it when this process dies. */
const [execPath = process.execPath, ...execArgv] = [...PARENT_DEATH_SIGNAL, process.execPath, ...process.execArgv];

/**
 * Starts the child in its own session, out of reach of the terminal's Ctrl-C: oneDNN's matrix product uses the stack
 * pointer for its workspace on the heap, and a signal handler that runs meanwhile overwrites the memory below it
 * (weights, or the data structures of malloc). The child is asked to stop by a message instead.
 * @param device the one on which the run is placed; undefined for a run that needs none.
 */
export function startChild(
  settings: ChildSettings,
  claimed: ClaimedRun | ClaimedPart,
  device: Device | undefined,
  logger: Logger,
): Child {
  const { run, token } = claimed;
  const isPlainCpu = run.kind === 'EXPORT';
  const child = fork(path.join(import.meta.dirname, 'child.ts'), {
    execPath,
    execArgv: run.kind === 'IMPORT' ? [...execArgv, ...IMPORT_HEAP_FLAGS] : execArgv,
    detached: true,
    env: childEnvironmentWithoutSecrets({
      ...ENGINE_PROCESS_ENV,
      ...engineLibraryEnv(),
      ...device?.env,
      ...(isPlainCpu ? PLAIN_CPU_ENV : {}),
    }),
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
  });
  let settled = false;
  let begun = false;
  let aliveMs = performance.now();
  let unsavedSinceMs: number | undefined;
  let stderrTail = '';
  let killTimer: NodeJS.Timeout | undefined;
  const keepTail = (text: string): void => {
    stderrTail = (stderrTail + text).slice(-STDERR_TAIL_LENGTH);
  };
  const pass = (line: string): void => {
    keepTail(`${line}\n`);
    // The child logs at the level of this process, so its entries belong in the same log: they alone have the stack of
    // a failed run. Other output comes from libraries.
    if (line.startsWith(LOG_ENTRY)) process.stderr.write(`${line}\n`);
    else logger.debug({ output: line }, 'child output');
  };
  for (const output of [child.stdout, child.stderr]) if (output !== null) createInterface(output).on('line', pass);
  child.on('message', (raw) => {
    aliveMs = performance.now();
    begun = true;
    const kind = childMessageSchema.safeParse(raw).data?.kind;
    if (kind === 'SETTLED') settled = true;
    else if (kind === 'UNSAVED_PROGRESS') unsavedSinceMs ??= aliveMs;
    else if (kind === 'STATE_SAVED') unsavedSinceMs = undefined;
  });
  const send = (message: AgentMessage): void => {
    if (child.connected) child.send(message, () => undefined);
  };
  const ended = new Promise<ChildEnd>((resolve) => {
    child.on('error', (error) => {
      keepTail(error.message);
    });
    child.on('close', (code, signal) => {
      clearTimeout(killTimer);
      resolve({ code, signal, settled, stderrTail });
    });
  });
  const start: StartMessage = {
    kind: 'START',
    ...settings,
    token,
    run: { id: run.id, kind: run.kind, config: run.config, attempt: run.attempt, microBatchSize: run.microBatchSize },
    claim: 'plan' in claimed ? { lease: claimed.lease, plan: claimed.plan } : { lease: claimed.lease, plan: null },
    device: isPlainCpu ? 'CPU' : (device?.facts.device ?? 'CPU'),
  };
  send(start);
  return {
    ended,
    hasBegun: () => begun,
    unsavedForMs: () => (unsavedSinceMs === undefined ? undefined : performance.now() - unsavedSinceMs),
    silentForMs: () => performance.now() - aliveMs,
    askToStop: (reason) => send({ kind: 'STOP', reason }),
    kill: () => void child.kill('SIGKILL'),
    killAfterDelay: () => {
      killTimer ??= setTimeout(() => void child.kill('SIGKILL'), KILL_DELAY_MS);
    },
  };
}
