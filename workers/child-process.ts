/** Starting and ending the process of one run. */
import { fork } from 'node:child_process';
import path from 'node:path';
import { childEnvironment } from '../src/env.ts';
import type { Logger } from '../src/logger.ts';
import type { RunLease, RunRecord } from '../src/modules/runs/index.ts';
import { childMessageSchema, type AgentMessage, type StartMessage } from './child-protocol.ts';
import { CPU_ONLY_ENV, ENGINE_PROCESS_ENV } from './engine/process-env.ts';

export interface ChildSettings {
  readonly databaseUrl: string;
  readonly artifactsDir: string;
  readonly workDir: string;
  readonly logLevel: string;
  readonly codeRevision: string | null;
}

export interface ChildEnd {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  /** True when the child wrote the run's outcome itself. */
  readonly settled: boolean;
  /** The end of what it wrote to standard error. */
  readonly lastWords: string;
}

export interface Child {
  readonly ended: Promise<ChildEnd>;
  askToStop(reason: 'CANCEL' | 'DRAIN'): void;
  kill(): void;
  /** For a child whose run is no longer ours: a moment to leave by itself, then the end. */
  killSoon(): void;
}

const LAST_WORDS_LENGTH = 4_000;
const LEAVE_MS = 3_000;

export function startChild(settings: ChildSettings, run: RunRecord, lease: RunLease, logger: Logger): Child {
  const child = fork(path.join(import.meta.dirname, 'child.ts'), {
    env: childEnvironment(run.kind === 'EXPORT' ? { ...ENGINE_PROCESS_ENV, ...CPU_ONLY_ENV } : ENGINE_PROCESS_ENV),
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
  });
  let settled = false;
  let lastWords = '';
  let leaveTimer: NodeJS.Timeout | undefined;
  const keep = (chunk: Buffer): void => {
    const text = chunk.toString('utf8');
    lastWords = (lastWords + text).slice(-LAST_WORDS_LENGTH);
    logger.debug({ output: text.trimEnd() }, 'child output');
  };
  child.stdout?.on('data', keep);
  child.stderr?.on('data', keep);
  child.on('message', (raw) => {
    if (childMessageSchema.safeParse(raw).success) settled = true;
  });
  const send = (message: AgentMessage): void => {
    if (child.connected) child.send(message, () => undefined);
  };
  const ended = new Promise<ChildEnd>((resolve) => {
    child.on('error', (error) => {
      lastWords += error.message;
    });
    child.on('close', (code, signal) => {
      clearTimeout(leaveTimer);
      resolve({ code, signal, settled, lastWords });
    });
  });
  const start: StartMessage = { kind: 'START', ...settings, run: { id: run.id, kind: run.kind, config: run.config, attempt: run.attempt }, lease };
  send(start);
  return {
    ended,
    askToStop: (reason) => send({ kind: 'STOP', reason }),
    kill: () => void child.kill('SIGKILL'),
    killSoon: () => {
      leaveTimer ??= setTimeout(() => void child.kill('SIGKILL'), LEAVE_MS);
    },
  };
}
