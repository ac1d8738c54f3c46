/** The server's own worker: a separate process, restarted when it dies and drained when the server stops. */
import { fork, type ChildProcess } from 'node:child_process';
import path from 'node:path';
import { childEnvironment } from './env.ts';
import type { Logger } from './logger.ts';

export interface WorkerProcess {
  /** Resolves when the worker has drained and exited. */
  stop(): Promise<void>;
}

const WORKER_PROGRAM = path.resolve(import.meta.dirname, '../workers/main.ts');
/** Without this pause, a worker that dies at once would be restarted in a tight loop. */
const RESTART_MS = 2_000;
/** Longer than the worker's own grace for its child. */
const STOP_GRACE_MS = 30_000;

export interface WorkerProcessOptions {
  /** The server's own URL on loopback. */
  readonly url: string;
  /** What the server accepts from this worker in place of a key. */
  readonly key: string;
  readonly dataDir: string;
  readonly logLevel: string;
  readonly logger: Logger;
}

export function startWorkerProcess({ url, key, dataDir, logLevel, logger }: WorkerProcessOptions): WorkerProcess {
  let stopping = false;
  let restart: NodeJS.Timeout | undefined;
  let child: ChildProcess;
  let gone: Promise<void>;

  const start = (): void => {
    child = fork(WORKER_PROGRAM, ['--beside-server'], {
      env: childEnvironment({
        PARAFFIN_URL: url,
        PARAFFIN_API_KEY: key,
        PARAFFIN_DATA_DIR: dataDir,
        PARAFFIN_LOG_LEVEL: logLevel,
      }),
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
    gone = new Promise((resolve) => {
      // A process that cannot be started emits no exit event.
      child.on('error', (error) => logger.error({ error }, 'the worker could not be started'));
      child.on('exit', (code, signal) => {
        resolve();
        if (stopping) return;
        logger.error({ code, signal }, 'the worker died and is being restarted');
        restart = setTimeout(start, RESTART_MS);
      });
    });
  };
  start();
  return {
    stop: async () => {
      stopping = true;
      clearTimeout(restart);
      if (child.exitCode === null && child.signalCode === null) child.kill('SIGTERM');
      const killer = setTimeout(() => child.kill('SIGKILL'), STOP_GRACE_MS);
      await gone;
      clearTimeout(killer);
    },
  };
}
