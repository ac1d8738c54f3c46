/** One sandboxed process that reads one slide. */
import path from 'node:path';
import { imageDecoderAddon } from '../../../src/platform/engine/image-decoder.ts';
import type { OpenFolder } from '../../../src/platform/open-folder.ts';
import { sandboxKind, shownFolderPath, type SandboxKind } from '../../../src/platform/sandbox.ts';
import type { SlideFacts } from '../../../src/protocol/slide-facts.ts';
import type { SlideOptions } from '../../../src/protocol/slide-options.ts';
import type { TilePlace } from '../../../src/protocol/slide-tiles.ts';
import { FIRST_FILE } from '../decoder/decoder-limits.ts';
import { DecoderFailedError, startDecoderProcess, type DecoderProcess } from '../decoder/decoder-process.ts';
import type { SlideFaultCode } from './openslide.ts';
import type { PatchPlace } from './patch-grid.ts';
import type { PatchFlaw } from './patch-quality.ts';
import type { SlidePictures } from './pictures.ts';
import { PLACE_BYTES, type SlideRequest } from './slide-protocol.ts';
import { PICTURE_BYTES_MAX, slideReplySchema, TILE_BYTES_MAX, type SlideReply } from './slide-reply.ts';
import type { Stain } from './stain.ts';

export interface SlideProcessOptions {
  /** The folder that the process sees; the slide and its companion files are below it. */
  readonly folder: OpenFolder;
  /** Relative to the folder. */
  readonly relativePath: string;
  /** Overrides what the slide states; null: what it states. */
  readonly micronsPerPixel: number | null;
  /** Of OpenSlide. */
  readonly libraryFile: string;
  /** The data directory, which is hidden from the process. */
  readonly hiddenFolder: string;
  readonly kind?: SandboxKind;
  /** For one request. */
  readonly timeoutMs?: number;
  /** Default: the reader. A test runs another program in the same sandbox. */
  readonly program?: string;
  /** The addon of `loadNativeDecoder`; null for none. Default: that of this machine. */
  readonly addon?: string | null;
}

/** Why a slide cannot be read. READER_FAILED: the process crashed on it, or took too long. */
export interface SlideRefusal {
  readonly code: SlideFaultCode | 'READER_FAILED';
  readonly reason: string;
}

export interface SlideSurvey {
  /** Shares of the slide, 0..1. */
  readonly tissueFraction: number;
  readonly penFraction: number;
  /** Null if patches are not normalised, or if it cannot be estimated. */
  readonly stain: Stain | null;
  /** The patches to take, row by row. */
  readonly places: readonly PatchPlace[];
  readonly pictures: SlidePictures;
}

export type CutPatch = { readonly place: PatchPlace } & (
  | {
      readonly outcome: 'PATCH';
      /** PNG. */
      readonly bytes: Buffer;
      /** sha256 of the RGB pixels, row by row. */
      readonly pixelDigest: Buffer;
      readonly perceptualHash: Uint8Array;
    }
  | { readonly outcome: 'FLAWED'; readonly flaw: PatchFlaw }
  | { readonly outcome: 'REGION_UNREADABLE'; readonly reason: string }
);

/** Its methods throw SlideReaderError for a slide on which the process crashed, or that cannot be read further. */
export interface SlideReader extends AsyncDisposable {
  readonly facts: SlideFacts;
  /** Finds tissue and the patches on it. Requires known microns per pixel. */
  survey(patchSizePx: number, options: SlideOptions): Promise<SlideSurvey>;
  /** Reads at most PLACES_MAX patches, in their order. `stain` is the slide's, if its patches are normalised. */
  cut(
    places: readonly PatchPlace[],
    patchSizePx: number,
    options: SlideOptions,
    stain?: Stain | null,
  ): Promise<CutPatch[]>;
  /** A tile as JPEG, also of a slide whose microns per pixel are not known. It must lie on the slide. */
  tile(place: TilePlace): Promise<Buffer>;
}

export class SlideReaderError extends Error {
  override readonly name = 'SlideReaderError';
  readonly refusal: SlideRefusal;
  constructor(refusal: SlideRefusal, options?: ErrorOptions) {
    super(refusal.reason, options);
    this.refusal = refusal;
  }
  /** True if the process ended or broke the protocol. A second one may not; one that took too long would again. */
  get isCrash(): boolean {
    return this.cause instanceof DecoderFailedError && !this.cause.isTimeout;
  }
}

const PROGRAM = path.join(import.meta.dirname, 'slide.program.ts');
const TIMEOUT_MS = 600_000;
/** Ten million patches of one slide. */
const SURVEY_BYTES_MAX = 10_000_000 * PLACE_BYTES + 2 * PICTURE_BYTES_MAX;

/**
 * Opens a slide in a new process, which the caller closes.
 * @throws SlideReaderError; Error if no process starts, which is not the fault of the slide.
 */
export async function openSlideReader(options: SlideProcessOptions): Promise<SlideReader> {
  const { folder, relativePath, micronsPerPixel, libraryFile, hiddenFolder, timeoutMs = TIMEOUT_MS } = options;
  const { kind = await sandboxKind(), program = PROGRAM, addon = imageDecoderAddon() } = options;
  const reader: Process = await startDecoderProcess({
    ...{ program, hiddenFolder, replySchema: slideReplySchema, kind, timeoutMs },
    args: [shownFolderPath(kind, FIRST_FILE), libraryFile, addon ?? ''],
    files: [folder.descriptor],
    shownDescriptor: FIRST_FILE,
  });
  try {
    return {
      facts: await asReader(() => openBy(reader, relativePath, micronsPerPixel)),
      survey: (patchSizePx, wanted) => asReader(() => surveyBy(reader, patchSizePx, wanted)),
      cut: (places, patchSizePx, wanted, stain = null) =>
        asReader(() => cutBy(reader, { places, patchSizePx, options: wanted, stain })),
      tile: (place) => asReader(() => tileBy(reader, place)),
      [Symbol.asyncDispose]: () => reader.kill(),
    };
  } catch (error) {
    await reader.kill();
    throw error;
  }
}

type Process = DecoderProcess<SlideRequest, SlideReply>;

async function asReader<Result>(work: () => Promise<Result>): Promise<Result> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof DecoderFailedError)) throw error;
    throw new SlideReaderError({ code: 'READER_FAILED', reason: `${error.message}.` }, { cause: error });
  }
}

async function openBy(reader: Process, file: string, micronsPerPixel: number | null): Promise<SlideFacts> {
  await reader.ask({ kind: 'OPEN', bodyByteSize: 0, file, micronsPerPixel });
  const { head } = await reader.reply(0);
  if (head.kind !== 'OPENED') throw faultOf(head);
  return head.slide;
}

async function surveyBy(reader: Process, patchSizePx: number, options: SlideOptions): Promise<SlideSurvey> {
  await reader.ask({ kind: 'SURVEY', bodyByteSize: 0, patchSizePx, options });
  const { head, body } = await reader.reply(SURVEY_BYTES_MAX);
  if (head.kind !== 'SURVEYED') throw faultOf(head);
  const { tissueFraction, penFraction, thumbnailByteSize, maskByteSize } = head;
  const maskAt = body.length - maskByteSize;
  const placesEnd = maskAt - thumbnailByteSize;
  if (placesEnd < 0) throw new DecoderFailedError('The reader sent pictures that are larger than their message');
  const places = Array.from({ length: Math.floor(placesEnd / PLACE_BYTES) }, (_, index) => ({
    x: body.readInt32LE(index * PLACE_BYTES),
    y: body.readInt32LE(index * PLACE_BYTES + 4),
    tissueFraction: Math.min(1, Math.max(0, body.readFloatLE(index * PLACE_BYTES + 8))),
  }));
  if (places.some(({ x, y }) => x < 0 || y < 0)) throw new DecoderFailedError('The reader found a patch off the slide');
  const pictures = { thumbnail: body.subarray(placesEnd, maskAt), mask: body.subarray(maskAt) };
  return { tissueFraction, penFraction, stain: head.stain, places, pictures };
}

type Cut = Pick<Extract<SlideRequest, { kind: 'CUT' }>, 'places' | 'patchSizePx' | 'options' | 'stain'>;

async function cutBy(reader: Process, cut: Cut): Promise<CutPatch[]> {
  const { places, patchSizePx } = cut;
  await reader.ask({ kind: 'CUT', bodyByteSize: 0, ...cut });
  const patches: CutPatch[] = [];
  // Of a PNG: the pixels with a filter byte for each row, and some overhead.
  const bytesMax = patchSizePx * (patchSizePx * 3 + 1) + 64 * 1024;
  for (;;) {
    const { head, body } = await reader.reply(bytesMax);
    if (head.kind === 'CUT') {
      if (patches.length !== places.length) throw new DecoderFailedError('The reader left out a patch');
      return patches;
    }
    if (head.kind !== 'PATCH' && head.kind !== 'FLAWED' && head.kind !== 'REGION_UNREADABLE') throw faultOf(head);
    const place = places[head.place];
    if (place === undefined || head.place !== patches.length)
      throw new DecoderFailedError('The reader sent a patch out of turn');
    switch (head.kind) {
      case 'PATCH':
        patches.push({
          ...{ outcome: 'PATCH', place, bytes: body },
          pixelDigest: Buffer.from(head.pixelDigest, 'hex'),
          perceptualHash: Uint8Array.from(Buffer.from(head.perceptualHash, 'hex')),
        });
        break;
      case 'FLAWED':
        patches.push({ outcome: 'FLAWED', place, flaw: head.flaw });
        break;
      case 'REGION_UNREADABLE':
        patches.push({ outcome: 'REGION_UNREADABLE', place, reason: head.reason });
        break;
    }
  }
}

async function tileBy(reader: Process, place: TilePlace): Promise<Buffer> {
  await reader.ask({ kind: 'TILE', bodyByteSize: 0, place });
  const { head, body } = await reader.reply(TILE_BYTES_MAX);
  if (head.kind !== 'TILE') throw faultOf(head);
  return body;
}

function faultOf(head: SlideReply): Error {
  return head.kind === 'FAULT'
    ? new SlideReaderError({ code: head.code, reason: head.reason })
    : new DecoderFailedError(`The reader answered ${head.kind} without a request for it`);
}
