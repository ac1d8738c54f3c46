/** Whether a process grows: its resident memory and its JavaScript heap, read now and then. */
import { readFile } from 'node:fs/promises';
import type { LoadClient } from './client.ts';

export interface MemorySample {
  readonly atSeconds: number;
  readonly residentMegabytes: number;
  readonly heapMegabytes: number;
}

export interface MemoryResult {
  readonly sampleCount: number;
  readonly first: MemorySample | undefined;
  readonly last: MemorySample | undefined;
  /** Least squares over the second half, when everything is warm: 10^6 bytes a minute. */
  readonly residentSlopePerMinute: number;
  /** Of the heap's low points: the least of each tenth, for between them garbage waits to be collected. */
  readonly heapSlopePerMinute: number;
}

export async function watchMemory(client: LoadClient, pid: number, everyMs: number, isOver: () => boolean): Promise<MemoryResult> {
  const samples: MemorySample[] = [];
  const startMs = performance.now();
  while (!isOver()) {
    const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '');
    const metrics = await client.get('/metrics').then((answer) => answer.body, () => '');
    const residentKb = Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1]);
    const heapBytes = Number(/^nodejs_heap_size_used_bytes (\S+)/m.exec(metrics)?.[1]);
    if (Number.isFinite(residentKb) && Number.isFinite(heapBytes)) {
      samples.push({ atSeconds: Math.round((performance.now() - startMs) / 1000), residentMegabytes: Math.round((residentKb * 1.024) / 100) / 10, heapMegabytes: Math.round(heapBytes / 1e5) / 10 });
    }
    await new Promise((resolve) => setTimeout(resolve, everyMs));
  }
  const warm = samples.slice(Math.floor(samples.length / 2));
  const size = Math.max(1, Math.ceil(warm.length / 10));
  const lows = Array.from({ length: Math.floor(warm.length / size) }, (_, index) => warm.slice(index * size, (index + 1) * size).reduce((least, sample) => (sample.heapMegabytes < least.heapMegabytes ? sample : least)));
  return {
    sampleCount: samples.length,
    first: samples.at(0),
    last: samples.at(-1),
    residentSlopePerMinute: slopePerMinute(warm.map((sample) => [sample.atSeconds, sample.residentMegabytes])),
    heapSlopePerMinute: slopePerMinute(lows.map((sample) => [sample.atSeconds, sample.heapMegabytes])),
  };
}

function slopePerMinute(points: readonly (readonly [number, number])[]): number {
  const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / Math.max(1, values.length);
  const meanX = mean(points.map(([x]) => x));
  const meanY = mean(points.map(([, y]) => y));
  const spread = points.reduce((sum, [x]) => sum + (x - meanX) ** 2, 0);
  const joint = points.reduce((sum, [x, y]) => sum + (x - meanX) * (y - meanY), 0);
  return spread === 0 ? 0 : Math.round((60_000 * joint) / spread) / 1000;
}
