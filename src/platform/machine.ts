/** Facts of the machine that decide which runs its worker can take. */
import { readFileSync } from 'node:fs';
import { totalmem } from 'node:os';

/** What oneDNN's bfloat16 kernels need of a processor (its `avx512_core`). */
const AVX512_CORE = ['avx512f', 'avx512bw', 'avx512dq', 'avx512vl'];

/** @param cpuinfo in the form of Linux's /proc/cpuinfo. */
export function cpuComputesInBfloat16(cpuinfo = readFileSync('/proc/cpuinfo', 'utf8')): boolean {
  const flags = new Set(/^flags\s*:(.*)$/m.exec(cpuinfo)?.[1]?.trim().split(/\s+/));
  return AVX512_CORE.every((flag) => flags.has(flag));
}

/** Memory in bytes that this process may use: the machine's, or the limit of its container or job. */
export function usableMemoryBytes(): number {
  const limit = process.constrainedMemory();
  return limit > 0 ? Math.min(limit, totalmem()) : totalmem();
}
