/** Whether a process leaks memory: samples of its heap after garbage collection, and of its resident memory. */
import { readFile } from 'node:fs/promises';

/** Memory after a garbage collection. */
export interface CollectedHeap {
  readonly heapBytes: number;
  readonly externalBytes: number;
}

export interface MemorySample {
  readonly atSeconds: number;
  /** 10^6 bytes, read before the collection. */
  readonly residentMegabytes: number;
  /** 10^6 bytes after it, buffers outside the heap included. */
  readonly liveMegabytes: number;
}

export interface MemoryResult {
  readonly samples: readonly MemorySample[];
  /**
   * Growth of live memory over the last two thirds of the time, after warm-up: the median of the slopes between any two
   * samples, in 10^6 bytes a minute.
   */
  readonly liveSlopePerMinute: number;
  /** Highest resident memory in the second and in the last third: garbage makes it rise and fall, a leak only rise. */
  readonly residentPeaksMegabytes: readonly [number, number];
}

export interface MemoryWatch {
  readonly pid: number;
  readonly collect: () => Promise<CollectedHeap>;
  readonly everyMs: number;
  readonly isOver: () => boolean;
}

export async function watchMemory({ pid, collect, everyMs, isOver }: MemoryWatch): Promise<MemoryResult> {
  const samples: MemorySample[] = [];
  const startMs = performance.now();
  for (let nextMs = startMs; !isOver();) {
    if (performance.now() >= nextMs) {
      nextMs += everyMs;
      const status = await readFile(`/proc/${pid}/status`, 'utf8');
      const { heapBytes, externalBytes } = await collect();
      samples.push({
        atSeconds: Math.round((performance.now() - startMs) / 1000),
        residentMegabytes: megabytes(Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1]) * 1024),
        liveMegabytes: megabytes(heapBytes + externalBytes),
      });
    }
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
  return summarise(samples);
}

/** @param samples in the order of time. */
export function summarise(samples: readonly MemorySample[]): MemoryResult {
  const third = Math.floor(samples.length / 3);
  const warm = samples.slice(third);
  const slopes = warm
    .flatMap((early, index) =>
      warm
        .slice(index + 1)
        .map((late) => (60 * (late.liveMegabytes - early.liveMegabytes)) / (late.atSeconds - early.atSeconds)),
    )
    .sort((a, b) => a - b);
  const middle = [
    slopes[Math.floor((slopes.length - 1) / 2)] ?? 0,
    slopes[Math.ceil((slopes.length - 1) / 2)] ?? 0,
  ] as const;
  const peak = (part: readonly MemorySample[]): number =>
    Math.max(0, ...part.map((sample) => sample.residentMegabytes));
  return {
    samples,
    liveSlopePerMinute: Math.round(500 * (middle[0] + middle[1])) / 1000,
    residentPeaksMegabytes: [
      peak(samples.slice(third, samples.length - third)),
      peak(samples.slice(samples.length - third)),
    ],
  };
}

function megabytes(bytes: number): number {
  return Math.round(bytes / 1e5) / 10;
}
