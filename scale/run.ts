/** Runs the stages in a folder, each once, and stops and removes everything that it started. */
import { mkdir, statfs } from 'node:fs/promises';
import path from 'node:path';
import { freeBytesOf } from '../src/platform/free-space.ts';
import { watchUsage, type UsageWatch } from './usage.ts';
import { diskNeedOf, roomFault, STAGES, type DiskNeed, type ScaleSize, type StageName } from './plan.ts';
import { readRecords, writeRecords, type StageRecords } from './record.ts';
import { openScaleRegistry, type ScaleRegistry } from './registry.ts';
import { draw } from './run-draw.ts';
import { REGISTRY_STAGES, type MeasuredPart, type NextPart, type StageOutcome } from './stages.ts';

export interface ScaleOptions {
  /** Created if it is missing; finished stages in it are not repeated. */
  readonly folder: string;
  readonly size: ScaleSize;
  readonly stages: readonly StageName[];
  readonly signal: AbortSignal;
  /** `fraction` of the stage, 0..1. */
  readonly onProgress: (stage: StageName, fraction: number, text: string) => void;
}

export interface ScaleResult extends StageRecords {
  /** Stages that an earlier command had finished. */
  readonly earlier: readonly StageName[];
}

/**
 * @throws Error for a wrong result of a stage, a missing earlier stage, or a disk without enough room; the reason of
 * the signal if it is aborted.
 */
export async function runScale({ folder, size, stages, signal, onProgress }: ScaleOptions): Promise<ScaleResult> {
  await mkdir(folder, { recursive: true });
  let records = await readRecords(folder, size);
  const earlier = STAGES.filter((stage) => records.stages[stage] !== undefined);
  const left = stages.filter((stage) => records.stages[stage] === undefined);
  for (const stage of left) {
    const missing = STAGES.slice(0, STAGES.indexOf(stage)).find(
      (before) => records.stages[before] === undefined && !left.includes(before),
    );
    if (missing !== undefined)
      throw new Error(`The stage ${stage} needs ${missing}, which has not finished in ${folder}.`);
  }
  // A folder with finished stages holds a part of it already.
  if (earlier.length === 0) await requireRoom(folder, diskNeedOf(size));
  const images = path.join(folder, 'images');
  let opened: { readonly registry: ScaleRegistry; readonly watch: UsageWatch } | undefined;
  try {
    for (const stage of STAGES.filter((each) => left.includes(each))) {
      signal.throwIfAborted();
      const progress = (fraction: number, text: string): void => onProgress(stage, fraction, text);
      const parts = { size, folder: images, onProgress: progress };
      let outcome: StageOutcome;
      if (stage === 'draw') outcome = await draw({ ...parts, signal });
      else {
        if (opened === undefined) {
          const registry = await openScaleRegistry(path.join(folder, 'registry'), images, signal);
          opened = { registry, watch: watchUsage(registry.serverPid) };
        }
        const { registry, watch } = opened;
        const ids = Object.fromEntries(Object.values(records.stages).flatMap((each) => Object.entries(each.ids)));
        outcome = await REGISTRY_STAGES[stage]({
          ...{ ...parts, registry },
          id: (name) => idIn(ids, name),
          measure: (name, imageCount, work) => measureParts(registry, watch, name, imageCount, work),
        });
      }
      records = { size, stages: { ...records.stages, [stage]: outcome } };
      await writeRecords(folder, records);
    }
  } finally {
    await opened?.watch.stop();
    await opened?.registry.stop();
  }
  return { ...records, earlier };
}

function idIn(ids: Readonly<Record<string, string>>, name: string): string {
  const id = ids[name];
  if (id === undefined) throw new Error(`No earlier stage gave ${name}.`);
  return id;
}

/** @throws Error with what is missing. */
export async function requireRoom(folder: string, need: DiskNeed): Promise<void> {
  const { files, ffree } = await statfs(folder);
  const room = { freeBytes: await freeBytesOf(folder), freeFileCount: files > 0 ? ffree : undefined };
  const fault = roomFault(folder, need, room);
  if (fault !== undefined) throw new Error(fault);
}

/** Runs `work` as one or more parts, each with its time, its peaks and the bytes that it left. */
async function measureParts(
  registry: Pick<ScaleRegistry, 'storedBytes'>,
  watch: UsageWatch,
  firstName: string,
  firstImageCount: number,
  work: (next: NextPart) => Promise<void>,
): Promise<MeasuredPart[]> {
  const parts: MeasuredPart[] = [];
  const begin = async (name: string, imageCount: number) => {
    await watch.restart();
    return { name, imageCount, storedBefore: await registry.storedBytes(), startMs: performance.now() };
  };
  let current = await begin(firstName, firstImageCount);
  const end = async (): Promise<void> => {
    const { name, imageCount, storedBefore, startMs } = current;
    const durationMs = performance.now() - startMs;
    const storedBytes = (await registry.storedBytes()) - storedBefore;
    parts.push({ name, imageCount, durationMs, ...(await watch.usage()), storedBytes });
  };
  await work(async (name, imageCount) => {
    await end();
    current = await begin(name, imageCount);
  });
  await end();
  return parts;
}
