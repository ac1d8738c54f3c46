/**
 * Our side of bench/weights.ts, in a separate process. Prints one JSON line.
 *
 *   node bench/weights-ours.ts FILE REPEATS      alternately reads the plain file and loads its tensors
 */
import { readFileSync } from 'node:fs';
import { readSafetensors } from '../src/formats/safetensors.ts';

const [file = '', repeats = '1'] = process.argv.slice(2);

function timedMs(work: () => void): number {
  const startedMs = performance.now();
  work();
  return performance.now() - startedMs;
}

/** The first round is not counted, because it fills the page cache and compiles code. */
function load(repeats: number): object {
  const rounds = Array.from({ length: repeats + 1 }, () => ({
    readMs: timedMs(() => readFileSync(file)),
    loadMs: timedMs(() => readSafetensors(readFileSync(file))),
  })).slice(1);
  return { readMs: rounds.map(({ readMs }) => readMs), loadMs: rounds.map(({ loadMs }) => loadMs) };
}

console.log(JSON.stringify(load(Number(repeats))));
