/** Runs the tools of the machine that installing the engine needs: python3 with pip, and g++. */
import { execFile, spawn } from 'node:child_process';
import { createRequire } from 'node:module';
import path from 'node:path';
import { promisify } from 'node:util';
import { ENGINE_INSTALL_COMMAND } from './installed.ts';

const run = promisify(execFile);
const require = createRequire(import.meta.url);

export interface EngineProgress {
  /** A description of the current step for the user. */
  readonly message: string;
  /** 0..1, if the total is known. */
  readonly fraction?: number;
}

/** The engine could not be installed; `hint` says what to do next. */
export class EngineLibraryError extends Error {
  readonly hint: string;
  constructor(message: string, hint: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'EngineLibraryError';
    this.hint = hint;
  }
}

/**
 * Runs a tool with its temporary files in `workDir`.
 * @throws EngineLibraryError if the tool is missing (the error names the package that provides it) or fails (the error
 * contains its output).
 */
export async function runTool(command: string, args: readonly string[], workDir: string): Promise<void> {
  await run('sh', ['-c', `command -v ${command}`]).catch((cause: unknown) => {
    throw new EngineLibraryError(`${command} is not installed.`, 'On Debian: apt-get install python3-pip g++', {
      cause,
    });
  });
  await new Promise<void>((resolve, reject) => {
    const child = spawn(command, args, { env: { ...process.env, TMPDIR: workDir }, stdio: ['ignore', 'pipe', 'pipe'] });
    let tail = '';
    const keep = (chunk: Buffer): void => {
      tail = (tail + chunk.toString('utf8')).slice(-4000);
    };
    child.stdout.on('data', keep);
    child.stderr.on('data', keep);
    child.on('error', reject);
    child.on('close', (code) => {
      if (code === 0) resolve();
      else
        reject(
          new EngineLibraryError(
            `${command} ended with ${code ?? 'a signal'}:\n${tail}`,
            `Fix the problem, then run "${ENGINE_INSTALL_COMMAND}" again.`,
          ),
        );
    });
  });
}

/** The folder of Node's C headers for addons. */
export function nodeHeadersDir(): string {
  const headers: unknown = require('node-api-headers');
  return typeof headers === 'object' &&
    headers !== null &&
    'include_dir' in headers &&
    typeof headers.include_dir === 'string'
    ? headers.include_dir
    : path.join(path.dirname(require.resolve('node-api-headers/package.json')), 'include');
}
