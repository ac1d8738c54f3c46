/**
 * The processes that read the slides of an import, at most one for each core, each for one slide: a slide that harms
 * its process harms no other slide.
 */
import { availableParallelism } from 'node:os';
import type { SlideFacts } from '../../../src/protocol/slide-facts.ts';
import type { SlideOptions } from '../../../src/protocol/slide-options.ts';
import type { PatchPlace } from './patch-grid.ts';
import {
  openSlideReader,
  SlideReaderError,
  type CutPatch,
  type SlideProcessOptions,
  type SlideReader,
  type SlideSurvey,
} from './slide-process.ts';
import type { Stain } from './stain.ts';

export interface SlideReadersOptions extends Omit<SlideProcessOptions, 'relativePath' | 'micronsPerPixel' | 'folder'> {
  /** Default: one for each core. */
  readonly processCount?: number;
}

/** A slide of the imported folder. */
export interface SlideFile {
  readonly folder: SlideProcessOptions['folder'];
  readonly relativePath: string;
  /** Overrides what the slide states; null: what it states. */
  readonly givenMicronsPerPixel: number | null;
}

/** Its methods throw SlideReaderError for a slide that cannot be read, takes too long, or crashes two processes. */
export interface SlideReaders extends AsyncDisposable {
  readonly processCount: number;
  /** What the slide is, and its patches; null for these if its microns per pixel are refused, or are too coarse. */
  survey(
    slide: SlideFile,
    patchSizePx: number,
    options: SlideOptions,
    isUsable: (facts: SlideFacts) => boolean,
  ): Promise<{ readonly facts: SlideFacts; readonly survey: SlideSurvey | null }>;
  cut(
    slide: SlideFile,
    places: readonly PatchPlace[],
    patchSizePx: number,
    options: SlideOptions,
    stain: Stain | null,
  ): Promise<CutPatch[]>;
}

/** A process may have been ended from outside, for which no slide is to blame. */
const ATTEMPTS = 2;

interface Held {
  readonly relativePath: string;
  readonly reader: SlideReader;
}

/** The caller has at most `processCount` slides or batches in flight. */
export function openSlideReaders(options: SlideReadersOptions): SlideReaders {
  const { processCount = availableParallelism(), ...each } = options;
  const idle: Held[] = [];
  const busy = new Set<Held>();
  /** Processes that are being opened. */
  let openingCount = 0;

  /** @returns a process that is busy from now on. */
  const take = async (slide: SlideFile, attempt: number): Promise<Held> => {
    const known = attempt === 1 ? idle.findIndex(({ relativePath }) => relativePath === slide.relativePath) : -1;
    const [reused] = known < 0 ? [] : idle.splice(known, 1);
    if (reused !== undefined) {
      busy.add(reused);
      return reused;
    }
    const { folder, relativePath, givenMicronsPerPixel: micronsPerPixel } = slide;
    // The oldest makes room.
    const oldest = idle.length + busy.size + openingCount >= processCount ? idle.shift() : undefined;
    openingCount += 1;
    try {
      await oldest?.reader[Symbol.asyncDispose]();
      const reader = await openSlideReader({ ...each, folder, relativePath, micronsPerPixel });
      const opened = { relativePath, reader };
      busy.add(opened);
      return opened;
    } finally {
      openingCount -= 1;
    }
  };

  const withReader = async <Result>(
    slide: SlideFile,
    work: (reader: SlideReader) => Promise<Result>,
  ): Promise<Result> => {
    for (let attempt = 1; ; attempt += 1) {
      let held: Held | undefined;
      try {
        held = await take(slide, attempt);
        const result = await work(held.reader);
        idle.push(held);
        return result;
      } catch (error) {
        await held?.reader[Symbol.asyncDispose]();
        if (!(error instanceof SlideReaderError) || !error.isCrash || attempt === ATTEMPTS) throw error;
      } finally {
        if (held !== undefined) busy.delete(held);
      }
    }
  };

  return {
    processCount,
    survey: (slide, patchSizePx, wanted, isUsable) =>
      withReader(slide, async (reader) => {
        const { facts } = reader;
        return { facts, survey: isUsable(facts) ? await reader.survey(patchSizePx, wanted) : null };
      }),
    cut: (slide, places, patchSizePx, wanted, stain) =>
      withReader(slide, (reader) => reader.cut(places, patchSizePx, wanted, stain)),
    [Symbol.asyncDispose]: async () => {
      await Promise.all([...idle, ...busy].map(({ reader }) => reader[Symbol.asyncDispose]()));
    },
  };
}
