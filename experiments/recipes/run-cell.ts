/** Measures one cell in separate processes, by our engine or by PyTorch. */
import { spawn } from 'node:child_process';
import { rm } from 'node:fs/promises';
import path from 'node:path';
import type { PixelSet } from './images.ts';
import { cellKey, type Cell } from './plan.ts';
import { stepsOf } from './recipe.ts';
import { resultSchema } from './cell-result.ts';
import type { Measured } from './results.ts';
import { z } from 'zod';

export interface CellContext {
  readonly pixels: PixelSet;
  readonly pixelsPath: string;
  readonly workDir: string;
  /** The Python environment with PyTorch, created when it is first needed. */
  readonly python: () => Promise<string>;
  /** Ends the running processes. */
  readonly signal: AbortSignal;
  readonly onProgress: (line: string) => void;
}

const peerSchema = z.object({ losses: z.array(z.number()), imagesPerSecond: z.number() });

/** Throws Error with the last lines of output of a process that failed. */
export async function runCell(cell: Cell, place: CellContext): Promise<Measured> {
  const { data, recipe, seed, trainer } = cell;
  const startedMs = performance.now();
  const embeddingsPath = path.join(place.workDir, `${cellKey(cell)}.f32`);
  try {
    const peer = trainer === 'PYTORCH' ? await runPeer(cell, place, embeddingsPath) : undefined;
    const { pixels, pixelsPath } = place;
    const job = { recipe, seed, trainer, embeddingsPath, pixelsPath, ...pixels };
    const own = resultSchema.parse(
      await runJob(process.execPath, [path.join(import.meta.dirname, 'cell.ts')], job, place),
    );
    return {
      key: cellKey(cell),
      data,
      recipe,
      seed,
      trainer,
      lastLoss: peer === undefined ? own.lastLoss : (peer.losses.at(-1) ?? null),
      imagesPerSecond: peer === undefined ? own.imagesPerSecond : peer.imagesPerSecond,
      seconds: Math.round((performance.now() - startedMs) / 1000),
      predictions: own.predictions,
    };
  } finally {
    await rm(embeddingsPath, { force: true });
  }
}

async function runPeer(
  { recipe, seed }: Cell,
  place: CellContext,
  embeddingsPath: string,
): Promise<z.infer<typeof peerSchema>> {
  const { imageCount, sizePx, trainCount } = place.pixels;
  const steps = stepsOf(recipe);
  const job = {
    ...recipe,
    steps,
    warmupSteps: Math.round(recipe.warmupShare * steps),
    seed,
    embeddingsPath,
    pixelsPath: place.pixelsPath,
    imageCount,
    sizePx,
    trainCount,
  };
  const script = path.join(import.meta.dirname, 'peer/simclr_recipe.py');
  return peerSchema.parse(await runJob(await place.python(), [script], job, place));
}

/** Passes a program its job as JSON and parses its last line of output as JSON; its standard error shows progress. */
function runJob(program: string, args: readonly string[], job: object, place: CellContext): Promise<unknown> {
  const { promise, resolve, reject } = Promise.withResolvers<unknown>();
  const child = spawn(program, args, {
    // The process gets its own session, because a terminal's Ctrl-C must not reach it in the middle of a matrix
    // product.
    detached: true,
    stdio: ['pipe', 'pipe', 'pipe'],
    env: { ...process.env, TF_CPP_MIN_LOG_LEVEL: '2', NODE_NO_WARNINGS: '1' },
  });
  const stop = (): void => void child.kill('SIGKILL');
  place.signal.addEventListener('abort', stop, { once: true });
  let output = '';
  let stderrTail = '';
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => (output += chunk));
  child.stderr.setEncoding('utf8').on('data', (chunk: string) => {
    stderrTail = (stderrTail + chunk).slice(-2000);
    place.onProgress(chunk.trimEnd().split('\n').at(-1) ?? '');
  });
  // The exit code reports a child that dies before it has read its job.
  child.stdin.on('error', () => undefined);
  child.stdin.end(JSON.stringify(job));
  child.on('error', reject);
  child.on('close', (code) => {
    place.signal.removeEventListener('abort', stop);
    if (place.signal.aborted) reject(new Error('Stopped.'));
    else if (code !== 0) reject(new Error(`${path.basename(args[0] ?? program)} ended with ${code}: ${stderrTail}`));
    else resolve(JSON.parse(output.trim().split('\n').at(-1) ?? ''));
  });
  return promise;
}
