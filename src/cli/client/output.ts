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

/** e.g. `0.812 [0.770, 0.851]`. */
export function interval({
  value,
  ci95Low,
  ci95High,
}: {
  readonly value: number;
  readonly ci95Low: number | null;
  readonly ci95High: number | null;
}): string {
  const around = ci95Low === null || ci95High === null ? '' : ` [${ci95Low.toFixed(3)}, ${ci95High.toFixed(3)}]`;
  return `${value.toFixed(3)}${around}`;
}

/** A duration in words, e.g. `2 h 05 min`. */
export function formatDuration(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${String(whole % 60).padStart(2, '0')} s`;
  return `${Math.floor(whole / 3600)} h ${String(Math.floor((whole % 3600) / 60)).padStart(2, '0')} min`;
}
