/**
 * Measures tissue detection and tiling of whole slides at 0.5 um/px in patches of 256 px, in turn with scripts of
 * openslide-python and, if its Python is given, TIAToolbox on the same slides and cores. Ours is a whole import to
 * sealed shards: it also checks every patch for pen, focus and emptiness, digests and hashes its pixels, looks for
 * copies, and reads in sandboxed processes.
 *
 * To run it alone: `node scripts/run.mjs bench/slides.ts [--rounds 3] [--blocks 32] [--slides wide.svs]
 * [--tiatoolbox PYTHON]`.
 * pip brings TIAToolbox with four gigabytes of CUDA, so that it is not installed here.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, rm, stat } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { text } from 'node:stream/consumers';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { z } from 'zod';
import { run } from '../compat/process.ts';
import { readEnvironment } from '../src/env.ts';
import { IMPORT_HEAP_FLAGS } from '../workers/imaging/import-heap.ts';
import { drawTissueSlide, type SlideToDraw } from './drawn-slide.ts';
import { memoryMegabytesOf } from './process-memory.ts';
import { cpuSecondsBelow } from './processor-time.ts';
import { median, rounded, summarise, type Summary } from './summary.ts';

export interface SlidesBenchOptions {
  /** The folder of the peers' virtual environments, which are reused between runs. */
  readonly pythonDir: string;
  readonly rounds: number;
  /** A Python that has TIAToolbox, openslide-python and SciPy; null: it is not measured. */
  readonly tiatoolboxPython: string | null;
  /** Side of the slides in blocks of 1,024 px [32: a gigapixel, about 3,000 patches]. */
  readonly blocksPerSide?: number;
  /** Names of the slides that are measured; null: all. */
  readonly slides?: readonly string[] | null;
  readonly onProgress: (message: string) => void;
}

export interface SlidesBenchSide {
  readonly side: string;
  readonly patchCount: number;
  readonly patchesPerSecond: Summary;
  /** Of all processes, for each patch, seen up to a quarter of a second before the end. */
  readonly cpuMsPerPatch: Summary;
  readonly surveySeconds: number;
  /** Of all processes together, with shared pages counted once. */
  readonly peakMegabytes: number;
  readonly storedMegabytes: number;
  /** The median over the rounds of our speed divided by this one; 1 for ours. */
  readonly oursRatio: number;
  /** The same by processor time, which depends less on other load. */
  readonly oursCpuRatio: number;
}

export interface SlidesBenchCase {
  readonly slide: string;
  readonly fileMegabytes: number;
  readonly sides: readonly SlidesBenchSide[];
}

export interface SlidesBench {
  readonly cores: number;
  readonly cases: readonly SlidesBenchCase[];
}

type Case = Omit<SlideToDraw, 'blocksPerSide' | 'tissueColumns'> & { readonly name: string; readonly isWide: boolean };

const CASES: readonly Case[] = [
  // The usual levels and um/px of a scanner: no patch begins at a tile.
  { name: 'aperio.svs', downsamples: [1, 4, 16], aperioMicronsPerPixel: 0.2527, isWide: false },
  { name: 'pyramid.tiff', downsamples: [1, 2, 4, 8, 16], aperioMicronsPerPixel: null, isWide: false },
  // Does memory grow with the slide?
  { name: 'wide.svs', downsamples: [1, 4, 16], aperioMicronsPerPixel: 0.2527, isWide: true },
];
/** 100,352 px. */
const WIDE_BLOCKS = 98;
const MICRONS_PER_PIXEL = '0.5';
const PATCH_PX = '256';
const MINUTES = 60_000;
/** Each look at all processes takes some milliseconds of one core. */
const SAMPLE_EVERY_MS = 250;

const measuredSchema = z.object({
  ...{ patchCount: z.number(), leftOutCount: z.number(), surveySeconds: z.number(), seconds: z.number() },
  storedMegabytes: z.number(),
});
type Measured = z.infer<typeof measuredSchema> & { readonly cpuSeconds: number; readonly peakMegabytes: number };

interface Side {
  readonly name: string;
  measure(slide: string): Promise<Measured>;
}

/** @throws Error if openslide-python cannot be installed, or a side fails. */
export async function benchSlides(options: SlidesBenchOptions): Promise<SlidesBench> {
  const { blocksPerSide = 32, slides: wanted = null, rounds, onProgress } = options;
  const sides = await findSides(options);
  const base = await mkdtemp(path.join(os.tmpdir(), 'paraffin-bench-slides-'));
  try {
    const cases: SlidesBenchCase[] = [];
    for (const { name, isWide, ...drawn } of CASES) {
      if (wanted !== null && !wanted.includes(name)) continue;
      onProgress(`slides: drawing ${name}`);
      const folder = path.join(base, path.parse(name).name);
      await mkdir(folder);
      const slide = path.join(folder, name);
      // As much tissue as on the other slides.
      const tissueColumns = isWide ? Math.ceil(blocksPerSide ** 2 / WIDE_BLOCKS) : blocksPerSide;
      await drawTissueSlide(slide, {
        ...{ ...drawn, tissueColumns },
        blocksPerSide: isWide ? WIDE_BLOCKS : blocksPerSide,
      });
      const results = sides.map((): Measured[] => []);
      for (let round = 0; round < rounds; round += 1)
        for (const [index, side] of sides.entries()) {
          onProgress(`slides: ${name}, round ${round + 1} of ${rounds}, ${side.name}`);
          results[index]?.push(await side.measure(slide));
        }
      const fileMegabytes = rounded((await stat(slide)).size / 1e6);
      cases.push({ slide: name, fileMegabytes, sides: sides.map((side, at) => summaryOf(side, results, at)) });
    }
    return { cores: os.availableParallelism(), cases };
  } finally {
    await rm(base, { recursive: true, force: true });
  }
}

function summaryOf({ name }: Side, results: readonly (readonly Measured[])[], at: number): SlidesBenchSide {
  const [ours = [], theirs = []] = [results[0], results[at]];
  const speedOf = ({ patchCount, seconds }: Measured): number => patchCount / seconds;
  const cpuMsOf = ({ patchCount, cpuSeconds }: Measured): number => (cpuSeconds * 1000) / patchCount;
  const ratio = (value: (measured: Measured) => number): number =>
    median(ours.map((each, round) => value(each) / value(theirs[round] ?? each)));
  return {
    side: name,
    patchCount: median(theirs.map(({ patchCount }) => patchCount)),
    patchesPerSecond: summarise(theirs.map(speedOf)),
    cpuMsPerPatch: summarise(theirs.map(cpuMsOf)),
    surveySeconds: rounded(median(theirs.map(({ surveySeconds }) => surveySeconds))),
    peakMegabytes: Math.round(Math.max(...theirs.map(({ peakMegabytes }) => peakMegabytes))),
    storedMegabytes: rounded(median(theirs.map(({ storedMegabytes }) => storedMegabytes))),
    oursRatio: rounded(ratio(speedOf)),
    oursCpuRatio: rounded(1 / ratio(cpuMsOf)),
  };
}

async function findSides({ pythonDir, tiatoolboxPython, onProgress }: SlidesBenchOptions): Promise<Side[]> {
  const here = (file: string): string => path.join(import.meta.dirname, file);
  const ours: Side = {
    name: 'ours, PNG',
    measure: (slide) =>
      measure(process.execPath, [
        ...['--disable-warning=ExperimentalWarning', ...IMPORT_HEAP_FLAGS, here('slides-ours.ts')],
        ...[path.dirname(slide), MICRONS_PER_PIXEL, PATCH_PX],
      ]),
  };
  const peer = (name: string, python: string, tool: string, format: string): Side => ({
    name,
    measure: (slide) =>
      measure(python, [
        ...[here('peer/slides_peer.py'), tool, slide, MICRONS_PER_PIXEL, PATCH_PX],
        ...[String(os.availableParallelism()), format],
      ]),
  });
  const openslide = await environmentWith(path.join(pythonDir, 'openslide'), OPENSLIDE_PACKAGES, onProgress);
  const sides = [
    ours,
    peer('openslide-python, JPEG', openslide, 'openslide', 'jpeg'),
    peer('openslide-python, PNG', openslide, 'openslide', 'png'),
  ];
  if (tiatoolboxPython !== null) sides.push(peer('TIAToolbox, JPEG', tiatoolboxPython, 'tiatoolbox', 'jpeg'));
  return sides;
}

const OPENSLIDE_PACKAGES = ['openslide-python', 'openslide-bin', 'numpy', 'scipy', 'pillow'];

/** The Python of a virtual environment with these packages, made once. @throws Error if pip cannot install them. */
async function environmentWith(
  folder: string,
  packages: readonly string[],
  onProgress: (message: string) => void,
): Promise<string> {
  const python = path.join(folder, 'bin', 'python');
  const query = `import importlib.metadata as m; [m.version(p) for p in ${JSON.stringify(packages)}]`;
  const hasAll =
    existsSync(python) &&
    (await run({ program: python, args: ['-c', query], timeoutMs: MINUTES }).then(isDone, isNotDone));
  if (hasAll) return python;
  onProgress(`slides: ${packages.at(-1) ?? ''} by pip, into ${folder} (once)`);
  await rm(folder, { recursive: true, force: true });
  await run({ program: 'python3', args: ['-m', 'venv', folder], timeoutMs: 2 * MINUTES });
  const args = ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', '--retries', '1', ...packages];
  await run({ program: python, args, timeoutMs: 10 * MINUTES });
  return python;
}

const isDone = (): boolean => true;
const isNotDone = (): boolean => false;

/** Runs one side, and watches the memory and the processor time of its processes. */
async function measure(program: string, args: readonly string[]): Promise<Measured> {
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'inherit'], timeout: 10 * MINUTES });
  const closed = once(child, 'close');
  const output = text(child.stdout);
  let [peakMegabytes, cpuSeconds] = [0, 0];
  let isRunning = true;
  const watch = async (): Promise<void> => {
    while (isRunning) {
      peakMegabytes = Math.max(peakMegabytes, memoryMegabytesOf(child.pid ?? 0));
      cpuSeconds = Math.max(cpuSeconds, cpuSecondsBelow(process.pid));
      await delay(SAMPLE_EVERY_MS);
    }
  };
  const watching = watch();
  await closed;
  isRunning = false;
  await watching;
  if (child.exitCode !== 0) throw new Error(`${path.basename(program)} ${args.join(' ')} failed.`);
  return { ...measuredSchema.parse(JSON.parse(await output)), cpuSeconds, peakMegabytes };
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: {
      rounds: { type: 'string' },
      blocks: { type: 'string' },
      tiatoolbox: { type: 'string' },
      slides: { type: 'string' },
    },
  });
  const result = await benchSlides({
    pythonDir: path.join(readEnvironment().engineCacheDir, '..', 'bench-slides'),
    rounds: Number(values.rounds ?? 3),
    blocksPerSide: Number(values.blocks ?? 32),
    tiatoolboxPython: values.tiatoolbox ?? null,
    slides: values.slides?.split(',') ?? null,
    onProgress: (message) => void process.stderr.write(`${message}\n`),
  });
  process.stdout.write(`${JSON.stringify(result, null, 2)}\n`);
}
