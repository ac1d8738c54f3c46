/** Runs the parts that need only the manifest of a version, each in a process of its own. */
import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { MANIFEST_PART_TITLES, MANIFEST_PARTS } from './manifest-parts.ts';
import type { ManifestRequest } from './manifest.program.ts';
import { runMeasured } from './measured-program.ts';
import { manifestDiskNeedOf } from './plan.ts';
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
    const name = MANIFEST_PART_TITLES[part];
    const request: ManifestRequest = { part, folder, ...size };
    const { peakBytes, ...measured } = await runMeasured({
      ...{ name, file: PROGRAM, request, signal },
      onProgress: (fraction) => onProgress(name, fraction),
    });
    parts.push({ name, imageCount: size.imageCount, ...measured, peakBytes: { RUN: peakBytes } });
  }
  return parts;
}
