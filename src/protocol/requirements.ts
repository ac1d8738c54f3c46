/**
 * What a run needs of its worker, what a worker has, and whether they match. The registry matches them in SQL when a
 * worker claims (`claimNext`), with the same meaning as here. Pure.
 */
import { z } from 'zod';
import type { RunKind } from './runs.ts';

export const DEVICE_KINDS = ['CPU', 'GPU'] as const;
export const deviceKindSchema = z.enum(DEVICE_KINDS);
export type DeviceKind = z.infer<typeof deviceKindSchema>;

/** 16 TiB. */
const MEMORY_MIB_MAX = 16 * 1024 * 1024;
export const memoryMiBSchema = z
  .number()
  .int()
  .min(1, 'must be at least 1')
  .max(MEMORY_MIB_MAX, `must be at most ${MEMORY_MIB_MAX} (16 TiB)`);

/** Such as `a100` or `site.basel`: it becomes a part of a scheduler's options, so that it has no spaces or quotes. */
export const workerLabelSchema = z.string().regex(/^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$/, {
  message: 'must be 1 to 63 letters, digits, dots, hyphens and underscores, from a letter or digit to one',
});
export const workerLabelsSchema = z
  .array(workerLabelSchema)
  .max(20, 'must be at most 20 labels')
  .transform((names): readonly string[] => [...new Set(names)].sort());

/**
 * What a run needs; what is not given is not needed. The longest duration is not in it: that is the run's
 * `maxDurationSeconds`.
 */
export const runRequirementsSchema = z.strictObject({
  /** The kind of device; null: any. */
  device: deviceKindSchema.nullable().default(null),
  /** Kernels for bfloat16. */
  bfloat16: z.boolean().default(false),
  /** Main memory. */
  memoryMiB: memoryMiBSchema.nullable().default(null),
  /** Memory of the GPU, which it therefore needs. */
  gpuMemoryMiB: memoryMiBSchema.nullable().default(null),
  /** The worker must have each of these. */
  labels: workerLabelsSchema.default([]),
});
export type RunRequirements = Readonly<z.infer<typeof runRequirementsSchema>>;

export const NO_REQUIREMENTS: RunRequirements = runRequirementsSchema.parse({});

/** What one place of a worker has. */
export const workerCapabilitiesSchema = z.strictObject({
  device: deviceKindSchema,
  bfloat16: z.boolean(),
  /** Of this place: the memory of the machine or of its job, divided by the number of places. */
  memoryMiB: z.number().int().min(0),
  /** Null without a GPU. */
  gpuMemoryMiB: z.number().int().min(0).nullable(),
  /** It takes only runs whose `maxDurationSeconds` is at most this; null: any run. */
  longestSeconds: z.number().int().min(1).nullable(),
  labels: workerLabelsSchema,
});
export type WorkerCapabilities = Readonly<z.infer<typeof workerCapabilitiesSchema>>;

/** A worker that says nothing of itself takes runs that need nothing. */
export const NO_CAPABILITIES: WorkerCapabilities = {
  device: 'CPU',
  bfloat16: false,
  memoryMiB: 0,
  gpuMemoryMiB: null,
  longestSeconds: null,
  labels: [],
};

/** A run as far as it decides which workers may take it. */
export interface DemandingRun {
  readonly kind: RunKind;
  readonly requirements: RunRequirements;
  /** Null: no limit. */
  readonly maxDurationSeconds: number | null;
  /** Workers that have tried the run and cannot compute in its precision, whatever they say of themselves. */
  readonly excludedWorkers: readonly string[];
}

/** A requirement that a worker does not meet. */
interface Lack {
  /** What the run needs, such as "bfloat16". */
  readonly needed: string;
  /** What the worker has instead, for one worker and for several. */
  readonly one: string;
  readonly several: string;
}

/** @returns what the place lacks for the run; empty if it may take the run. */
function lacksOf(run: Omit<DemandingRun, 'kind'>, workerName: string, has: WorkerCapabilities): Lack[] {
  const { device, bfloat16, memoryMiB: memory, gpuMemoryMiB: gpuMemory, labels: wanted } = run.requirements;
  const lacks: Lack[] = [];
  const add = (needed: string, one: string, several: string): void => void lacks.push({ needed, one, several });
  if (device === 'GPU' && has.device !== 'GPU') add('a GPU', 'has none', 'have none');
  if (device === 'CPU' && has.device !== 'CPU') add('a CPU', 'computes on a GPU', 'compute on GPUs');
  if (bfloat16 && !has.bfloat16) add('bfloat16', 'has no AVX-512 or GPU', 'have no AVX-512 or GPU');
  else if (run.excludedWorkers.includes(workerName))
    add('bfloat16', 'has tried and cannot compute in it', 'have tried and cannot compute in it');
  if (memory !== null && has.memoryMiB < memory) {
    const size = sizeOf(has.memoryMiB);
    add(`${sizeOf(memory)} of memory`, `has ${size}`, `have ${size}`);
  }
  if (gpuMemory !== null && (has.gpuMemoryMiB ?? 0) < gpuMemory) {
    const size = has.gpuMemoryMiB === null ? 'no GPU' : `a GPU of ${sizeOf(has.gpuMemoryMiB)}`;
    add(`a GPU of ${sizeOf(gpuMemory)}`, `has ${size}`, `have ${size}`);
  }
  if (has.longestSeconds !== null && (run.maxDurationSeconds ?? Infinity) > has.longestSeconds) {
    const most = `runs of at most ${durationOf(has.longestSeconds)}`;
    add(
      run.maxDurationSeconds === null ? 'a time without limit' : durationOf(run.maxDurationSeconds),
      `takes ${most}`,
      `take ${most}`,
    );
  }
  for (const label of wanted)
    if (!has.labels.includes(label)) add(`the label ${label}`, 'does not have it', 'do not have it');
  return lacks;
}

/** A worker as far as it decides which runs it may take. */
export interface OfferingWorker {
  readonly name: string;
  readonly isDraining: boolean;
  readonly places: readonly { readonly kinds: readonly RunKind[]; readonly capabilities: WorkerCapabilities }[];
}

/**
 * Why none of the living workers can take a run that waits.
 * @param workers those that were heard a short while ago.
 * @returns one sentence without its end, such as "needs bfloat16: workers a, b have no AVX-512 or GPU"; null if one
 * can.
 */
export function whyNoWorker(run: DemandingRun, workers: readonly OfferingWorker[]): string | null {
  const takers = workers.flatMap(({ places, ...worker }) => {
    const found = places.filter(({ kinds }) => kinds.includes(run.kind));
    return found.length === 0 ? [] : [{ ...worker, places: found }];
  });
  if (takers.length === 0) return `no worker takes ${PLURALS[run.kind]} now`;
  const reasons = takers.map(({ name, isDraining, places }) => {
    // The place that comes nearest.
    const [lacks = []] = places
      .map(({ capabilities }) => lacksOf(run, name, capabilities))
      .toSorted((one, other) => one.length - other.length);
    return { name, isDraining, lacks };
  });
  if (reasons.some(({ isDraining, lacks }) => !isDraining && lacks.length === 0)) return null;
  const needed = [...new Set(reasons.flatMap(({ lacks }) => lacks.map((lack) => lack.needed)))];
  const groups = Map.groupBy(reasons, ({ lacks }) => lacks.map(({ needed: what, one }) => `${what}: ${one}`).join());
  const told = [...groups.values()].map((group) => {
    const [{ lacks } = { lacks: [] }] = group;
    const isOne = group.length === 1;
    // With several needs, which of them it is that a worker does not meet.
    const parts = lacks.map(({ needed: what, one, several }) => {
      const has = isOne ? one : several;
      return needed.length === 1 ? has : `${has} (${what})`;
    });
    return `${namesOf(group.map(({ name }) => name))} ${parts.length === 0 ? (isOne ? 'is draining' : 'are draining') : parts.join(' and ')}`;
  });
  return `${needed.length === 0 ? 'waits for a worker' : `needs ${needed.join(' and ')}`}: ${told.join('; ')}`;
}

/**
 * What this machine lacks for a run that it was told to take.
 * @returns one sentence without its end; null if it lacks nothing.
 */
export function whyNotHere(
  run: Omit<DemandingRun, 'kind'>,
  workerName: string,
  capabilities: WorkerCapabilities,
): string | null {
  const lacks = lacksOf(run, workerName, capabilities);
  if (lacks.length === 0) return null;
  return `needs ${lacks.map(({ needed }) => needed).join(' and ')}, but this worker ${lacks.map(({ one }) => one).join(' and ')}`;
}

/** @returns such as "GPU of 80 GiB, bfloat16, 64 GiB of memory, labels a100 and basel". */
export function describeCapabilities(capabilities: WorkerCapabilities): string {
  const { device, bfloat16, memoryMiB, gpuMemoryMiB, longestSeconds, labels } = capabilities;
  return [
    gpuMemoryMiB === null ? device : `${device} of ${sizeOf(gpuMemoryMiB)}`,
    ...(bfloat16 ? ['bfloat16'] : []),
    `${sizeOf(memoryMiB)} of memory`,
    ...(longestSeconds === null ? [] : [`runs of at most ${durationOf(longestSeconds)}`]),
    ...(labels.length === 0 ? [] : [`labels ${labels.join(' and ')}`]),
  ].join(', ');
}

/** @returns such as "a GPU, bfloat16, 32 GiB of memory"; null if the run needs nothing. */
export function describeRequirements({
  device,
  bfloat16,
  memoryMiB,
  gpuMemoryMiB,
  labels,
}: RunRequirements): string | null {
  const needed = [
    ...(gpuMemoryMiB !== null ? [`a GPU of ${sizeOf(gpuMemoryMiB)}`] : device === null ? [] : [`a ${device}`]),
    ...(bfloat16 ? ['bfloat16'] : []),
    ...(memoryMiB === null ? [] : [`${sizeOf(memoryMiB)} of memory`]),
    ...labels.map((label) => `the label ${label}`),
  ];
  return needed.length === 0 ? null : needed.join(', ');
}

const PLURALS: Readonly<Record<RunKind, string>> = {
  IMPORT: 'imports',
  PRETRAINING: 'pretrainings',
  EVALUATION: 'evaluations',
  EMBEDDING: 'embeddings',
  EXPORT: 'exports',
};

const NAMES_SHOWN = 3;

function namesOf(names: readonly string[]): string {
  if (names.length === 1) return `worker ${names.join('')}`;
  const others = names.length - NAMES_SHOWN;
  return `workers ${names.slice(0, NAMES_SHOWN).join(', ')}${others > 0 ? ` and ${others} more` : ''}`;
}

function sizeOf(mebibytes: number): string {
  return mebibytes < 1024 ? `${mebibytes} MiB` : `${Number((mebibytes / 1024).toFixed(1))} GiB`;
}

function durationOf(seconds: number): string {
  if (seconds < 60) return `${seconds} s`;
  return seconds < 3600 ? `${Number((seconds / 60).toFixed(1))} min` : `${Number((seconds / 3600).toFixed(1))} h`;
}
