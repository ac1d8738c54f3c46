/** The loops over every pixel that is read of a slide: in our addon where it is compiled, else in script. */
import { pngLoops, SCRIPT_PNG_LOOPS, type PngLoops } from '../decoder/encode-png.ts';
import type { NativeDecoder } from '../decoder/native-decoder.ts';
import { measureInScript, type MeasurePatch } from './patch-quality.ts';
import { mixInScript, type Mix } from './resample.ts';

/** An opaque RGB colour. */
export interface Colour {
  readonly red: number;
  readonly green: number;
  readonly blue: number;
}

export interface PixelLoops {
  /** Fills `target` with RGB from `bgra`, which is premultiplied ARGB as OpenSlide gives it: in memory B, G, R, A. */
  readonly onBackground: (bgra: Buffer, background: Colour, target: Buffer) => void;
  readonly mix: Mix;
  readonly measure: MeasurePatch;
  readonly png: PngLoops;
}

export const SCRIPT_LOOPS: PixelLoops = {
  onBackground: onBackgroundInScript,
  mix: mixInScript,
  measure: measureInScript,
  png: SCRIPT_PNG_LOOPS,
};

/** @returns loops that make the same pixels with the addon as without one. */
export function pixelLoops(native: NativeDecoder | null): PixelLoops {
  if (native === null) return SCRIPT_LOOPS;
  return {
    onBackground: (bgra, { red, green, blue }, target) => native.onBackground(bgra, red, green, blue, target),
    mix: ({ data, width, height }, columns, rows, target) =>
      native.mix(data, width, height, columns.first, columns.weights, rows.first, rows.weights, target),
    measure: ({ data, width, height }) => {
      const [penCount = 0, laplacianSum = 0, laplacianSquares = 0] = native.measure(data, width, height);
      return { penCount, laplacianSum, laplacianSquares };
    },
    png: pngLoops(native),
  };
}

function onBackgroundInScript(bgra: Buffer, { red, green, blue }: Colour, target: Buffer): void {
  for (let from = 0, to = 0; from < bgra.length; from += 4, to += 3) {
    const [b, g, r] = [bgra[from] ?? 0, bgra[from + 1] ?? 0, bgra[from + 2] ?? 0];
    const rest = 255 - (bgra[from + 3] ?? 0);
    target[to] = rest === 0 ? r : r + Math.floor((red * rest + 127) / 255);
    target[to + 1] = rest === 0 ? g : g + Math.floor((green * rest + 127) / 255);
    target[to + 2] = rest === 0 ? b : b + Math.floor((blue * rest + 127) / 255);
  }
}
