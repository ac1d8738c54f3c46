/** `paraffin slides`: the reader of whole slides on this machine, and what it says about a slide. */
import { execFile } from 'node:child_process';
import { stat } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import { z } from 'zod';
import { readEnvironment } from '../env.ts';
import { ensureOpenSlide, OPENSLIDE_WHEEL, type OpenSlideLibrary } from '../platform/openslide/library.ts';
import { slideInfoSchema, type SlideFacts } from '../protocol/slide-facts.ts';
import { CommandFailure, EXIT, type ExitCode } from './exit-codes.ts';
import { createStatusLine, printable, table } from './terminal.ts';

const run = promisify(execFile);
/** Runs apart, because a slide may crash the library. */
const INFO_PROGRAM = path.resolve(import.meta.dirname, '../../workers/imaging/slides/slide-info.program.ts');

/** The library, fetched with progress if it is not here yet. */
export async function installSlideReader(): Promise<OpenSlideLibrary> {
  const status = createStatusLine(process.stderr);
  const library = await ensureOpenSlide(readEnvironment().engineCacheDir, ({ message, fraction }) => {
    status.show(`slide reader: ${message}${fraction === undefined ? '' : ` ${Math.round(fraction * 100)} %`}`);
  });
  status.end();
  return library;
}

/** Such as "OpenSlide 4.0.1 (openslide-bin 4.0.1.2)". @throws Error if the library does not load. */
export async function versionOfSlideReader(library: OpenSlideLibrary): Promise<string> {
  const { version } = z.object({ version: z.string() }).parse(JSON.parse(await infoProgram(library)));
  const origin =
    library.source === 'WHEEL'
      ? `${OPENSLIDE_WHEEL.package} ${OPENSLIDE_WHEEL.version}`
      : `the system's library, ${library.file}`;
  return `OpenSlide ${version} (${origin})`;
}

async function infoProgram(library: OpenSlideLibrary, ...file: readonly string[]): Promise<string> {
  const hiddenFolder = readEnvironment().dataDir;
  const args = ['--disable-warning=ExperimentalWarning', INFO_PROGRAM, library.file, hiddenFolder, ...file];
  return (await run(process.execPath, args)).stdout;
}

export async function slideInfo(file: string, json: boolean): Promise<ExitCode> {
  const found = await stat(file);
  if (!found.isFile()) throw new CommandFailure({ message: `${printable(file)} is not a file.` });
  const info = slideInfoSchema.parse(JSON.parse(await infoProgram(await installSlideReader(), path.resolve(file))));
  if ('refusal' in info) {
    const { code, reason } = info.refusal;
    if (json) process.stdout.write(`${JSON.stringify(info.refusal, null, 2)}\n`);
    else process.stderr.write(`${printable(path.basename(file))} cannot be read (${code}): ${printable(reason)}\n`);
    return EXIT.NOT_DONE;
  }
  process.stdout.write(json ? `${JSON.stringify(info.slide, null, 2)}\n` : asText(file, info.slide));
  return info.slide.micronsPerPixel.outcome === 'FOUND' ? EXIT.DONE : EXIT.NOT_DONE;
}

function asText(file: string, { reader, vendor, levels, objective, micronsPerPixel }: SlideFacts): string {
  const [level0] = levels;
  const { width = 0, height = 0 } = level0 ?? {};
  const found = micronsPerPixel.outcome === 'FOUND' ? micronsPerPixel : null;
  const extent =
    found === null ? '' : `, ${((width * found.x) / 1000).toFixed(2)} x ${((height * found.y) / 1000).toFixed(2)} mm`;
  const rows = levels.map((level, index) => [
    String(index),
    `${level.width} x ${level.height}`,
    String(Number(level.downsample.toPrecision(5))),
    found === null ? '-' : String(Number((found.x * level.downsample).toPrecision(4))),
  ]);
  return [
    `slide      ${printable(path.basename(file))}`,
    `vendor     ${vendor}, read by OpenSlide ${reader}`,
    `size       ${width} x ${height} px${extent}`,
    `um/px      ${resolutionInWords(micronsPerPixel)}`,
    `objective  ${objective === null ? 'not stated' : `${objective}x`}`,
    '',
    table(['level', 'size px', 'downsample', 'um/px'], rows),
    '',
  ].join('\n');
}

function resolutionInWords(resolution: SlideFacts['micronsPerPixel']): string {
  if (resolution.outcome === 'REFUSED') return `unknown. ${resolution.reason}`;
  const { x, y, property, disagreesWithObjective } = resolution;
  const [across, down] = [Number(x.toPrecision(5)), Number(y.toPrecision(5))];
  const value = across === down ? String(across) : `${across} across, ${down} down`;
  const doubt = disagreesWithObjective ? '; differs from what the objective usually has' : '';
  return `${value}, from ${property ?? 'the given value'}${doubt}`;
}
