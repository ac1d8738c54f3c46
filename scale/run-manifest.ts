/** Runs the parts that need only the manifest of a version, each in a process of its own. */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { MANIFEST_PART_TITLES, MANIFEST_PARTS, type ManifestPartName } from './manifest-parts.ts';
import { replySchema, type ManifestRequest } from './manifest.program.ts';
import { manifestDiskNeedOf, type ScaleSize } from './plan.ts';
import { requireRoom, type ScaleOptions } from './run.ts';
import type { MeasuredPart } from './stages.ts';

export interface ManifestOptions extends Pick<ScaleOptions, 'folder' | 'size' | 'signal'> {
  readonly onProgress: (part: string, fraction: number) => void;
}

const PROGRAM = path.join(import.meta.dirname, 'manifest.program.ts');

/** @throws Error for a wrong result of a part, or a disk without enough room; the reason of the signal. */
export async function runManifestParts({ folder, size, signal, onProgress }: ManifestOptions): Promise<MeasuredPart[]> {
  await mkdir(folder, { recursive: true });
  await requireRoom(folder, manifestDiskNeedOf(size));
  const parts: MeasuredPart[] = [];
  for (const part of MANIFEST_PARTS) {
    signal.throwIfAborted();
    parts.push(await runPart(part, { folder, size, signal, onProgress }));
  }
  return parts;
}

async function runPart(
  part: ManifestPartName,
  { folder, size, signal, onProgress }: ManifestOptions,
): Promise<MeasuredPart> {
  const name = MANIFEST_PART_TITLES[part];
  const child = fork(PROGRAM, { stdio: ['ignore', 'inherit', 'pipe', 'ipc'] });
  const stop = (): void => void child.kill('SIGKILL');
  signal.addEventListener('abort', stop);
  let errors = '';
  child.stderr?.setEncoding('utf8').on('data', (text: string) => (errors += text));
  let measured: MeasuredPart | undefined;
  child.on('message', (message) => {
    const reply = replySchema.parse(message);
    if (reply.kind === 'PROGRESS') onProgress(name, reply.fraction);
    else {
      const { durationMs, processorMs, peakBytes, storedBytes } = reply;
      measured = {
        ...{ name, imageCount: size.imageCount, durationMs, processorMs, storedBytes },
        peakBytes: { RUN: peakBytes },
      };
    }
  });
  try {
    child.send({ part, folder, ...size } satisfies ManifestRequest & ScaleSize);
    await once(child, 'close');
  } finally {
    signal.removeEventListener('abort', stop);
  }
  signal.throwIfAborted();
  if (measured === undefined) throw new Error(`${name} failed: ${/Error: .*/.exec(errors)?.[0] ?? errors}`);
  return measured;
}
