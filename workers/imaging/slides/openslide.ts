/**
 * OpenSlide's C API (https://openslide.org/api/openslide_8h.html), called through koffi. Only a process that may be lost
 * calls it: the library parses untrusted files.
 */
import koffi from 'koffi';
import type { Pixels } from '../pixels.ts';
import type { SlideLevel } from './geometry.ts';
import { createKeptMemory } from '../kept-memory.ts';
import { SCRIPT_LOOPS, type Colour, type PixelLoops } from './pixel-loops.ts';

export interface OpenSlide {
  /** Of the loaded library, such as "4.0.1". */
  readonly version: string;
  /** @throws SlideFault NOT_A_SLIDE, UNREADABLE. */
  open(file: string): OpenedSlide;
}

export interface OpenedSlide {
  /** The format, by its vendor: aperio, hamamatsu, mirax, leica, ventana, philips, generic-tiff, dicom and others. */
  readonly vendor: string;
  /** From the finest; level 0 has downsample 1. */
  readonly levels: readonly SlideLevel[];
  /** Null if the slide does not have it. Ask for named properties only: others hold names of patients. */
  property(name: string): string | null;
  /**
   * RGB of a region, valid until the next region is read; pixels that the scanner did not record have the slide's
   * background colour.
   * @param x,y top left corner in pixels of level 0. @param width,height in pixels of the level.
   * @throws SlideFault REGION_UNREADABLE, after which nothing more can be read from this opened slide.
   */
  readRegion(level: number, x: number, y: number, width: number, height: number): Pixels;
  close(): void;
}

export const SLIDE_FAULTS = ['NOT_A_SLIDE', 'UNREADABLE', 'REGION_UNREADABLE'] as const;
export type SlideFaultCode = (typeof SLIDE_FAULTS)[number];

/** Its message is the library's own, which names files and offsets. */
export class SlideFault extends Error {
  override readonly name = 'SlideFault';
  readonly code: SlideFaultCode;
  constructor(code: SlideFaultCode, message: string) {
    super(message);
    this.code = code;
  }
}

/** Decoded tiles that are kept for neighbouring patches. */
const CACHE_BYTES = 64 * 1024 * 1024;
const WHITE = { red: 255, green: 255, blue: 255 };

/** @throws Error if the file is not a library, or lacks functions of OpenSlide 3.4. */
export function loadOpenSlide(libraryFile: string, { onBackground }: PixelLoops = SCRIPT_LOOPS): OpenSlide {
  const library = koffi.load(libraryFile);
  const getVersion = library.func('const char *openslide_get_version()');
  const openFile = library.func('void *openslide_open(const char *filename)');
  const closeSlide = library.func('void openslide_close(void *osr)');
  const getError = library.func('const char *openslide_get_error(void *osr)');
  const getLevelCount = library.func('int32_t openslide_get_level_count(void *osr)');
  const getLevelSize = library.func(
    'void openslide_get_level_dimensions(void *osr, int32_t level, _Out_ int64_t *w, _Out_ int64_t *h)',
  );
  const getDownsample = library.func('double openslide_get_level_downsample(void *osr, int32_t level)');
  const getProperty = library.func('const char *openslide_get_property_value(void *osr, const char *name)');
  const read = library.func(
    'void openslide_read_region(void *osr, uint8_t *dest, int64_t x, int64_t y, int32_t level, int64_t w, int64_t h)',
  );
  const limitCache = cacheLimiterOf(library);
  const textOf = (value: unknown): string | null => (typeof value === 'string' ? value : null);

  return {
    version: textOf(getVersion()) ?? 'unknown',
    open: (file) => {
      const handle: unknown = openFile(file);
      if (handle === null) throw new SlideFault('NOT_A_SLIDE', 'OpenSlide does not recognise the file.');
      const requireSound = (code: SlideFaultCode): void => {
        const error = textOf(getError(handle));
        if (error !== null) throw new SlideFault(code, error);
      };
      const property = (name: string): string | null => textOf(getProperty(handle, name));
      try {
        requireSound('UNREADABLE');
        limitCache(handle);
        const levels = Array.from({ length: Number(getLevelCount(handle)) }, (_, level): SlideLevel => {
          const [width, height]: [number[], number[]] = [[0], [0]];
          getLevelSize(handle, level, width, height);
          return {
            width: Number(width[0]),
            height: Number(height[0]),
            downsample: Number(getDownsample(handle, level)),
          };
        });
        requireSound('UNREADABLE');
        const background = backgroundOf(property('openslide.background-color'));
        const [regionMemory, rgbMemory] = [createKeptMemory(), createKeptMemory()];
        return {
          vendor: property('openslide.vendor') ?? 'unknown',
          levels,
          property,
          readRegion: (level, x, y, width, height) => {
            const [region, data] = [regionMemory(width * height * 4), rgbMemory(width * height * 3)];
            read(handle, region, x, y, level, width, height);
            requireSound('REGION_UNREADABLE');
            onBackground(region, background, data);
            return { data, width, height };
          },
          close: () => void closeSlide(handle),
        };
      } catch (error) {
        closeSlide(handle);
        throw error;
      }
    },
  };
}

/** OpenSlide 3 has no such function, and a fixed cache of 32 MiB. */
function cacheLimiterOf(library: ReturnType<typeof koffi.load>): (handle: unknown) => void {
  try {
    const create = library.func('void *openslide_cache_create(size_t capacity)');
    const assign = library.func('void openslide_set_cache(void *osr, void *cache)');
    const release = library.func('void openslide_cache_release(void *cache)');
    return (handle) => {
      const cache: unknown = create(CACHE_BYTES);
      assign(handle, cache);
      release(cache);
    };
  } catch {
    return () => undefined;
  }
}

/** @param text as RRGGBB. */
function backgroundOf(text: string | null): Colour {
  const value = /^[0-9a-f]{6}$/i.test(text ?? '') ? Number.parseInt(text ?? '', 16) : null;
  return value === null ? WHITE : { red: value >> 16, green: (value >> 8) & 255, blue: value & 255 };
}
