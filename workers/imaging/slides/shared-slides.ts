/**
 * The slides of an import, shared with other workers: this worker plans each slide as a part, takes the parts itself
 * one after another, and those that another worker has taken it waits for. So its batches come in the same order and
 * with the same content, whoever has read them.
 */
import { setTimeout as pause } from 'node:timers/promises';
import { DomainError } from '../../../src/errors.ts';
import { createTurns } from '../../../src/in-turn.ts';
import type { ArtifactStore, LocalFile } from '../../../src/platform/artifact-store/index.ts';
import type { OpenFolder } from '../../../src/platform/open-folder.ts';
import { programVersion } from '../../../src/platform/program-version.ts';
import { PARTS_MAX, type PartState, type PlannedPart } from '../../../src/protocol/part-calls.ts';
import { isDamage } from '../import-blocks.ts';
import type { SourceImage } from '../listing.ts';
import type { ReadFile } from '../read-file.ts';
import type { SlideBatch } from './read-batch.ts';
import { openOutcome, PartDisagreesError, storePlan, type SettledSlide, type SlidePlan } from './slide-part.ts';

/** What the registry knows of the parts. */
export interface PartStore {
  /** Replaces the parts that other workers may take. */
  plan(parts: readonly PlannedPart[]): Promise<void>;
  /** Takes a part for this worker, unless another one has it. */
  take(number: number): Promise<PartState>;
  localFile(sha256: string): Promise<LocalFile>;
  /** Called with a sentence about a slide that another worker could not read. */
  onNotice(sentence: string): Promise<void>;
}

export interface SharedSlides {
  /** The slides of this pass that other workers have read, by the name of the worker. */
  readonly readBy: ReadonlyMap<string, number>;
  /**
   * A batch of a slide, from the worker that has read it or from `read`.
   * @param held what this worker holds for the batch: `release` is called when another worker has the slide, and
   * `abandoned` ends the waiting for it.
   */
  fileOf(
    source: SourceImage,
    held: { readonly abandoned: AbortSignal; release(): void },
    read: () => Promise<ReadFile>,
  ): Promise<ReadFile>;
}

export interface SlidesToShare {
  readonly folder: OpenFolder;
  readonly sources: Iterable<SourceImage>;
  /** Sources that are not read again. */
  readonly doneCount: number;
  readonly patchSizePx: number;
  readonly artifacts: Pick<ArtifactStore, 'put' | 'read'>;
  readonly parts: PartStore;
  /** Called between slides and while another worker is waited for; an error that it throws ends the import. */
  readonly throwIfStopped?: (() => void) | undefined;
}

/** How often to look whether a slide that is waited for has been read. */
const LOOK_EVERY_MS = 500;
/** Plans that are stored at once. */
const PLANS_AT_ONCE = 16;
/** An outcome that is gone, or for which this machine has no room: the slide is read here. */
const NOT_USABLE: ReadonlySet<string> = new Set(['ARTIFACT_NOT_FOUND', 'ARTIFACT_CORRUPT', 'STORAGE_FULL']);

interface Slide {
  readonly number: number;
  readonly relativePath: string;
  readonly batches: SlideBatch[];
  /** How many of its batches come from an earlier attempt. */
  doneCount: number;
}

type Reader =
  | { readonly isHere: true }
  /** Undefined: the other worker has failed, so that the slide is read here. */
  | { readonly isHere: false; readonly slide: Promise<SettledSlide | undefined> };

/** Plans the slides that are not done. An import of which one slide is left shares nothing. */
export async function shareSlides(options: SlidesToShare): Promise<SharedSlides> {
  const { parts, throwIfStopped } = options;
  const { slides, places } = slidesAmong(options.sources, options.doneCount);
  const left = slides.filter(({ batches, doneCount }) => doneCount < batches.length);
  const plans = left.length < 2 ? new Map<number, PlannedSlidePart>() : await planSlides(left, options);
  const readers = new Map<number, Promise<Reader>>();
  const leftCounts = new Map(left.map(({ number, batches, doneCount }) => [number, batches.length - doneCount]));
  const readBy = new Map<string, number>();
  // Its turn at a reader is over when a slide comes back, so that its batches are read one at a time beside the others.
  const inTurn = createTurns();

  const open = async (plan: SlidePlan, { worker, outcome }: Extract<PartState, { state: 'SETTLED' }>) => {
    try {
      const slide = await openOutcome(outcome, plan, options.patchSizePx, options.artifacts, parts.localFile);
      readBy.set(worker, (readBy.get(worker) ?? 0) + 1);
      return slide;
    } catch (error) {
      const isUnusable =
        error instanceof PartDisagreesError ||
        (error instanceof DomainError && NOT_USABLE.has(error.code)) ||
        isDamage(error);
      if (!isUnusable) throw error;
      const why = error instanceof Error ? error.message : '';
      await parts.onNotice(`What ${worker} read of ${plan.relativePath} is not used. ${why}`);
      return undefined;
    }
  };

  const tellRefusals = async (plan: SlidePlan, { givenBack }: Extract<PartState, { state: 'YOURS' }>) => {
    for (const { worker, reason } of givenBack)
      await parts.onNotice(`${worker} did not read ${plan.relativePath}. ${reason}`);
  };

  const waitFor = async (number: number, plan: SlidePlan, abandoned: AbortSignal) => {
    for (;;) {
      await pause(LOOK_EVERY_MS, undefined, { signal: abandoned });
      throwIfStopped?.();
      const state = await parts.take(number);
      if (state.state === 'SETTLED') return open(plan, state);
      if (state.state === 'TAKEN') continue;
      await tellRefusals(plan, state);
      return undefined;
    }
  };

  const readerOf = async (number: number, plan: SlidePlan, abandoned: AbortSignal): Promise<Reader> => {
    const state = await parts.take(number);
    switch (state.state) {
      case 'YOURS':
        await tellRefusals(plan, state);
        return { isHere: true };
      case 'SETTLED':
        return { isHere: false, slide: open(plan, state) };
      case 'TAKEN':
        return { isHere: false, slide: waitFor(number, plan, abandoned) };
    }
  };

  await parts.plan([...plans].map(([number, { stored }]) => ({ number, plan: stored })));
  return {
    readBy,
    fileOf: async (source, { abandoned, release }, read) => {
      const place = places.get(source);
      const plan = place === undefined ? undefined : plans.get(place.number)?.plan;
      if (place === undefined || plan === undefined) return read();
      const { number, index } = place;
      const known = readers.get(number) ?? readerOf(number, plan, abandoned);
      readers.set(number, known);
      const reader = await known;
      if (reader.isHere) return read();
      release();
      const slide = await reader.slide;
      if (slide === undefined) return inTurn(read);
      const file = await slide.batch(index);
      const leftCount = (leftCounts.get(number) ?? 0) - 1;
      leftCounts.set(number, leftCount);
      if (leftCount === 0) await slide.release();
      return file;
    },
  };
}

interface Place {
  /** Of the slide. */
  readonly number: number;
  /** Of the batch among those of the slide. */
  readonly index: number;
}

/** The sources of a slide follow each other. */
function slidesAmong(sources: Iterable<SourceImage>, doneCount: number) {
  const slides: Slide[] = [];
  const places = new Map<SourceImage, Place>();
  let position = 0;
  for (const source of sources) {
    const isDone = position < doneCount;
    position += 1;
    if (source.slide === undefined) continue;
    let slide = slides.at(-1);
    if (slide?.relativePath !== source.relativePath) {
      slide = { number: slides.length, relativePath: source.relativePath, batches: [], doneCount: 0 };
      slides.push(slide);
    }
    places.set(source, { number: slide.number, index: slide.batches.length });
    slide.batches.push(source.slide);
    if (isDone) slide.doneCount += 1;
  }
  return { slides, places };
}

interface PlannedSlidePart {
  readonly plan: SlidePlan;
  readonly stored: PlannedPart['plan'];
}

/** By the number of the slide, without slides whose file is gone. */
async function planSlides(
  slides: readonly Slide[],
  { folder, artifacts, throwIfStopped }: SlidesToShare,
): Promise<Map<number, PlannedSlidePart>> {
  const plans = new Map<number, PlannedSlidePart>();
  for (let first = 0; first < Math.min(slides.length, PARTS_MAX); first += PLANS_AT_ONCE) {
    throwIfStopped?.();
    await Promise.all(
      slides.slice(first, first + PLANS_AT_ONCE).map(async ({ number, relativePath, batches }) => {
        const facts = await folder.factsOf(relativePath);
        if (facts === null) return;
        const plan = {
          ...{ programVersion: programVersion(), relativePath },
          facts: { byteSize: facts.byteSize, modifiedAtMs: facts.modifiedAtMs },
          batches: batches.map(({ givenMicronsPerPixel, places, stain, level0, slide }) => ({
            ...{ givenMicronsPerPixel, stain, level0, slide },
            places: places.map(({ x, y, tissueFraction }) => ({ x, y, tissueFraction })),
          })),
        };
        plans.set(number, { plan, stored: await storePlan(artifacts, plan) });
      }),
    );
  }
  return plans;
}
