/** The loop inside a process that reads one slide: answers requests one at a time until its input ends. */
import { createHash } from 'node:crypto';
import path from 'node:path';
import type { Readable, Writable } from 'node:stream';
import type { SlideFacts } from '../../../src/protocol/slide-facts.ts';
import type { SlideOptions } from '../../../src/protocol/slide-options.ts';
import type { TilePlace } from '../../../src/protocol/slide-tiles.ts';
import { encodePng } from '../decoder/encode-png.ts';
import type { Pixels } from '../pixels.ts';
import { createFrameReader, FramesEndedError, writeFrame } from '../decoder/frames.ts';
import { perceptualHash } from '../perceptual-hash.ts';
import { levelFaultIn, sourceRegionOf, type SlideGeometry } from './geometry.ts';
import {
  micronsPerPixelOf,
  objectiveOf,
  RESOLUTION_PROPERTIES,
  type ResolutionProperties,
} from './microns-per-pixel.ts';
import { SlideFault, type OpenedSlide, type OpenSlide } from './openslide.ts';
import { readOverview } from './overview.ts';
import { drawEvenly, patchesOn, type PatchPlace } from './patch-grid.ts';
import { flawOf } from './patch-quality.ts';
import type { PixelLoops } from './pixel-loops.ts';
import { resample } from './resample.ts';
import { readTile } from './tile.ts';
import { picturesOf } from './pictures.ts';
import { PLACE_BYTES, type SlideRequest } from './slide-protocol.ts';
import type { SlideReply } from './slide-reply.ts';
import { estimateStain, normaliseStain, type Stain } from './stain.ts';
import { findTissue } from './tissue.ts';

const REASON_LENGTH_MAX = 300;
/** Pixels from which a slide's stain is estimated: 32 patches of 256 px. */
const STAIN_PIXELS = 2_097_152;

function stainSamplesOf(patchSizePx: number): number {
  return Math.max(1, Math.floor(STAIN_PIXELS / patchSizePx ** 2));
}

interface Opened {
  readonly file: string;
  readonly slide: OpenedSlide;
  readonly levels: SlideGeometry['levels'];
  /** Null if they are refused. */
  readonly micronsPerPixel: SlideGeometry['micronsPerPixel'] | null;
}

export interface SlideServiceOptions {
  readonly openSlide: OpenSlide;
  /** Where the process sees the folder that is imported. */
  readonly shownFolder: string;
  readonly loops: PixelLoops;
}

export async function serveSlide(
  input: Readable,
  output: Writable,
  { openSlide, shownFolder, loops: { mix, measure, png: pngLoops } }: SlideServiceOptions,
): Promise<void> {
  // The request comes from our own import, which is trusted.
  const requests = createFrameReader(input, (text): SlideRequest => JSON.parse(text));
  const reply = (message: SlideReply, body?: Buffer): Promise<void> =>
    writeFrame(output, message, body === undefined ? [] : [body]);
  let opened: Opened | null = null;

  const open = async (file: string, givenMicronsPerPixel: number | null): Promise<void> => {
    const slide = openSlide.open(path.join(shownFolder, file));
    const facts = factsOf(slide, openSlide.version, givenMicronsPerPixel);
    const { levels, micronsPerPixel } = facts;
    const levelFault = levelFaultIn(levels);
    if (levelFault !== null) throw new SlideFault('UNREADABLE', levelFault);
    opened = { file, slide, levels, micronsPerPixel: micronsPerPixel.outcome === 'FOUND' ? micronsPerPixel : null };
    await reply({ kind: 'OPENED', bodyByteSize: 0, slide: facts });
  };
  const requireOpened = (): Opened => {
    if (opened === null) throw new Error('No slide is open.');
    return opened;
  };
  const requireMeasured = (): Opened & { readonly geometry: SlideGeometry } => {
    const { micronsPerPixel, ...rest } = requireOpened();
    if (micronsPerPixel === null) throw new Error('The microns per pixel of the slide are not known.');
    return { ...rest, micronsPerPixel, geometry: { levels: rest.levels, micronsPerPixel } };
  };

  const survey = async (patchSizePx: number, options: SlideOptions): Promise<void> => {
    const { file, slide, geometry } = requireMeasured();
    const overview = readOverview(slide, geometry, mix);
    const mask = findTissue(overview);
    const candidates = patchesOn(geometry, mask, patchSizePx, options);
    const places = drawEvenly(candidates, options.patchesPerSlideMax, options.seed, file);
    const stain = stainOn(places, patchSizePx, options);
    const { tissueFraction, penFraction } = mask;
    const pictures = await picturesOf(overview, mask);
    const body = Buffer.concat([encodePlaces(places), pictures.thumbnail, pictures.mask]);
    await reply(
      {
        ...{ kind: 'SURVEYED', bodyByteSize: body.length, tissueFraction, penFraction, stain },
        ...{ thumbnailByteSize: pictures.thumbnail.length, maskByteSize: pictures.mask.length },
      },
      body,
    );
  };

  const read = ({ x, y }: PatchPlace, patchSizePx: number, { micronsPerPixel }: SlideOptions): Pixels => {
    const { slide, geometry } = requireMeasured();
    const region = sourceRegionOf(geometry, { micronsPerPixel, patchSizePx }, x, y);
    const source = slide.readRegion(region.level, region.x, region.y, region.width, region.height);
    return resample(source, region, patchSizePx, patchSizePx, mix);
  };

  /** From good patches all over the slide; null if they are not to be normalised, or show too little. */
  const stainOn = (places: readonly PatchPlace[], patchSizePx: number, options: SlideOptions): Stain | null => {
    const { stainNormalisation } = options;
    if (stainNormalisation === 'NONE') return null;
    const samples: Pixels[] = [];
    for (const place of drawEvenly(places, stainSamplesOf(patchSizePx), options.seed, 'stain')) {
      try {
        const patch = read(place, patchSizePx, options);
        if (flawOf(patch, options, measure) === null) samples.push(patch);
      } catch (error) {
        if (!(error instanceof SlideFault)) throw error;
        // Its region is reported when it is cut.
        opened = reopen(openSlide, shownFolder, requireOpened());
      }
    }
    return estimateStain(stainNormalisation, samples);
  };

  const cut = async (
    place: number,
    at: PatchPlace,
    { patchSizePx, options, stain }: Extract<SlideRequest, { kind: 'CUT' }>,
  ) => {
    const scanned = read(at, patchSizePx, options);
    const flaw = flawOf(scanned, options, measure);
    if (flaw !== null) return reply({ kind: 'FLAWED', bodyByteSize: 0, place, flaw });
    const patch = stain === null ? scanned : normaliseStain(scanned, stain);
    const png = encodePng(patch, pngLoops);
    return reply(
      {
        ...{ kind: 'PATCH', bodyByteSize: png.length, place },
        pixelDigest: createHash('sha256').update(patch.data).digest('hex'),
        perceptualHash: Buffer.from(perceptualHash(patch)).toString('hex'),
      },
      png,
    );
  };

  const tile = async (place: TilePlace): Promise<void> => {
    try {
      const jpeg = await readTile({ ...requireOpened(), mix }, place);
      await reply({ kind: 'TILE', bodyByteSize: jpeg.length }, jpeg);
    } catch (error) {
      if (error instanceof SlideFault) opened = reopen(openSlide, shownFolder, requireOpened());
      throw error;
    }
  };

  const answer = async (request: SlideRequest): Promise<void> => {
    switch (request.kind) {
      case 'OPEN':
        await open(request.file, request.micronsPerPixel);
        break;
      case 'SURVEY':
        await survey(request.patchSizePx, request.options);
        break;
      case 'CUT':
        for (const [place, at] of request.places.entries()) {
          try {
            await cut(place, at, request);
          } catch (error) {
            if (!(error instanceof SlideFault)) throw error;
            await reply({ kind: 'REGION_UNREADABLE', bodyByteSize: 0, place, reason: reasonOf(error, shownFolder) });
            // After an error OpenSlide refuses every further read of the slide as it was opened.
            opened = reopen(openSlide, shownFolder, requireOpened());
          }
        }
        await reply({ kind: 'CUT', bodyByteSize: 0 });
        break;
      case 'TILE':
        await tile(request.place);
        break;
    }
  };

  await reply({ kind: 'READY', bodyByteSize: 0 });
  for (;;) {
    try {
      const { head } = await requests.next(0);
      await answer(head);
    } catch (error) {
      if (error instanceof FramesEndedError) return;
      if (!(error instanceof SlideFault)) throw error;
      await reply({ kind: 'FAULT', bodyByteSize: 0, code: error.code, reason: reasonOf(error, shownFolder) });
    }
  }
}

function reopen(openSlide: OpenSlide, shownFolder: string, { slide, ...opened }: Opened): Opened {
  slide.close();
  return { ...opened, slide: openSlide.open(path.join(shownFolder, opened.file)) };
}

/** The library's messages contain the path that it opened, which means nothing outside the sandbox. */
function reasonOf({ message }: SlideFault, shownFolder: string): string {
  return message.replaceAll(`${shownFolder}/`, '').slice(0, REASON_LENGTH_MAX);
}

function encodePlaces(places: readonly PatchPlace[]): Buffer {
  const body = Buffer.allocUnsafe(places.length * PLACE_BYTES);
  for (const [index, { x, y, tissueFraction }] of places.entries()) {
    body.writeInt32LE(x, index * PLACE_BYTES);
    body.writeInt32LE(y, index * PLACE_BYTES + 4);
    body.writeFloatLE(tissueFraction, index * PLACE_BYTES + 8);
  }
  return body;
}

function factsOf(slide: OpenedSlide, reader: string, givenMicronsPerPixel: number | null): SlideFacts {
  const properties: ResolutionProperties = Object.fromEntries(
    RESOLUTION_PROPERTIES.flatMap((name) => {
      const value = slide.property(name);
      return value === null ? [] : [[name, value]];
    }),
  );
  return {
    ...{ reader, vendor: slide.vendor, levels: [...slide.levels] },
    objective: objectiveOf(properties),
    micronsPerPixel: micronsPerPixelOf(properties, givenMicronsPerPixel),
  };
}
