/** Peak memory (VmHWM) and processor time of the processes of a registry, as the kernel reports them for each. */
import { readFile, writeFile } from 'node:fs/promises';
import { familyOf, processorTimeOf } from '../test/support/processes.ts';

/** SERVER: `paraffin serve`. WORKER: its agent. RUN: the process of one run. DECODER: one of those that decode. */
export const PROCESS_KINDS = ['SERVER', 'WORKER', 'RUN', 'DECODER', 'DATABASE'] as const;
export type ProcessKind = (typeof PROCESS_KINDS)[number];

/** The largest process of each kind, in bytes; kinds that did not run are missing. */
export type PeakBytes = Readonly<Partial<Record<ProcessKind, number>>>;

/** Programs by a part of their command line, in the order in which they are looked for. */
const PROGRAMS: readonly (readonly [string, ProcessKind])[] = [
  ['decoder.program.ts', 'DECODER'],
  ['stored.program.ts', 'DECODER'],
  ['workers/child.ts', 'RUN'],
  ['workers/main.ts', 'WORKER'],
  ['cli/main.ts', 'SERVER'],
  ['postgres', 'DATABASE'],
];
/** What a process that ends between two looks used in its last moments is not seen. */
const LOOK_EVERY_MS = 500;

export interface Usage {
  readonly peakBytes: PeakBytes;
  /** Of all processes together, on all cores. */
  readonly processorMs: number;
}

export interface UsageWatch {
  /** Forgets the usage so far: the peaks of living processes start again from what they hold now. */
  restart(): Promise<void>;
  /** The usage since then. */
  usage(): Promise<Usage>;
  stop(): Promise<void>;
}

/** @param rootPid of the server. */
export function watchUsage(rootPid: number): UsageWatch {
  const peaks = new Map<ProcessKind, number>();
  /** Of each process ever seen, by its identity. */
  const processorMs = new Map<string, number>();
  const total = (): number => processorMs.values().reduce((sum, each) => sum + each, 0);
  let totalBefore = 0;
  const look = async (): Promise<void> => {
    for (const pid of await familyOf(rootPid)) {
      const time = await processorTimeOf(pid);
      if (time !== undefined) processorMs.set(time.identity, time.processorMs);
      const kind = await kindOf(pid);
      if (kind !== undefined) peaks.set(kind, Math.max(peaks.get(kind) ?? 0, await peakBytesOf(pid)));
    }
  };
  const stopped = Promise.withResolvers<void>();
  let isStopped = false;
  const watching = (async () => {
    while (!isStopped) {
      await look();
      const pause = Promise.withResolvers<void>();
      const timer = setTimeout(pause.resolve, LOOK_EVERY_MS);
      await Promise.race([pause.promise, stopped.promise]);
      clearTimeout(timer);
    }
  })();
  return {
    restart: async () => {
      // The kernel's own peak of a process is set back by this number (proc_pid_clear_refs(5)).
      for (const pid of await familyOf(rootPid))
        if ((await kindOf(pid)) !== undefined) await writeFile(`/proc/${pid}/clear_refs`, '5').catch(ignoreEnded);
      await look();
      peaks.clear();
      totalBefore = total();
    },
    usage: async () => {
      await look();
      return { peakBytes: Object.fromEntries(peaks), processorMs: total() - totalBefore };
    },
    stop: async () => {
      isStopped = true;
      stopped.resolve();
      await watching;
    },
  };
}

/** A process may end while it is looked at; any other failure would make the figures wrong. */
function ignoreEnded(error: unknown): void {
  if (!(error instanceof Error && 'code' in error && (error.code === 'ENOENT' || error.code === 'ESRCH'))) throw error;
}

async function kindOf(pid: number): Promise<ProcessKind | undefined> {
  const words = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '');
  return PROGRAMS.find(([part]) => words.includes(part))?.[1];
}

/** The most resident memory that a process has had, in bytes; 0 for one that has ended. */
export async function peakBytesOf(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '');
  return Number(/^VmHWM:\s+(\d+) kB/m.exec(status)?.[1] ?? 0) * 1024;
}
