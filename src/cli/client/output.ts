/** What a client command prints: results on standard output, everything else on standard error. */
import { styleText } from 'node:util';
import type { ClientOptions } from './connection.ts';

export interface Result {
  /** The whole answer, for programs. */
  readonly data: unknown;
  /** For people. */
  readonly text: string;
  /** For another command: ids or slugs, one per line. */
  readonly names: readonly string[];
}

export function show({ json, quiet }: ClientOptions, { data, text, names }: Result): void {
  if (json === true) process.stdout.write(`${JSON.stringify(data, null, 2)}\n`);
  else if (quiet === true) process.stdout.write(names.map((name) => `${name}\n`).join(''));
  else if (text !== '') process.stdout.write(`${text}\n`);
}

/** A note beside the result. */
export function printNote({ quiet }: ClientOptions, text: string): void {
  if (quiet !== true) process.stderr.write(`${text}\n`);
}

type Style = 'bold' | 'dim' | 'red' | 'green' | 'yellow' | 'cyan';

/** Coloured on a terminal that supports colours; plain in a pipe, a file, or where NO_COLOR is set. */
export function paint(style: Style, text: string): string {
  return styleText(style, text, { stream: process.stdout });
}

/** `name value` lines; unknown values are left out. */
export function facts(rows: readonly (readonly [name: string, value: string | number | null | undefined])[]): string {
  const known = rows.flatMap(([name, value]) =>
    value === null || value === undefined || value === '' ? [] : [[name, String(value)] as const],
  );
  const width = Math.max(...known.map(([name]) => name.length));
  return known.map(([name, value]) => `${paint('dim', name.padEnd(width))}  ${value}`).join('\n');
}

/** A status with its colour. */
export function paintStatus(status: string): string {
  if (status === 'SUCCEEDED' || status === 'SEALED') return paint('green', status);
  if (status === 'FAILED') return paint('red', status);
  return status === 'RUNNING' || status === 'QUEUED' ? paint('cyan', status) : paint('yellow', status);
}

/** What is known of the patients or slides over which the intervals of a result were resampled. */
export interface GroupKnowledge {
  readonly groupsKnown: boolean | null;
  /** Null if all of them are known. */
  readonly intervalCaveat: string | null;
}

interface Estimate {
  readonly value: number;
  readonly ci95Low: number | null;
  readonly ci95High: number | null;
}

/** e.g. `0.812 [0.770, 0.851]`; an asterisk refers to the line that `intervalNotes` gives. */
export function interval(estimate: Estimate, groups: GroupKnowledge): string {
  return written(estimate, groups, (value) => value.toFixed(3));
}

/** Like `interval`, for a difference: `+0.041 [-0.004, +0.086]`. */
export function signedInterval(estimate: Estimate, groups: GroupKnowledge): string {
  return written(estimate, groups, signed);
}

function written(
  { value, ci95Low, ci95High }: Estimate,
  { intervalCaveat }: GroupKnowledge,
  textOf: (value: number) => string,
): string {
  if (ci95Low === null || ci95High === null) return textOf(value);
  return `${textOf(value)} [${textOf(ci95Low)}, ${textOf(ci95High)}]${intervalCaveat === null ? '' : '*'}`;
}

function signed(value: number): string {
  return `${value < 0 ? '' : '+'}${value.toFixed(3)}`;
}

/** The lines that say what the asterisks of the intervals mean; equal ones are said once. */
export function intervalNotes(results: readonly GroupKnowledge[]): string[] {
  const caveats = new Set(results.flatMap(({ intervalCaveat }) => intervalCaveat ?? []));
  return [...caveats].map((caveat) => paint('yellow', `* ${caveat}`));
}

/** A duration in words, e.g. `2 h 05 min`. */
export function formatDuration(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${String(whole % 60).padStart(2, '0')} s`;
  return `${Math.floor(whole / 3600)} h ${String(Math.floor((whole % 3600) / 60)).padStart(2, '0')} min`;
}
