/** Reads one batch of a slide's patches, as an import stores them. */
import type { OpenFolder } from '../../../src/platform/open-folder.ts';
import type { SlideOptions } from '../../../src/protocol/slide-options.ts';
import type { PreparedFile } from '../decoder/image-decoders.ts';
import type { PreparedImage } from '../decoder/prepare.ts';
import type { Finding } from '../formats/image-header.ts';
import type { PatchPlace } from './patch-grid.ts';
import { SlideReaderError } from './slide-process.ts';
import type { SlideReaders } from './slide-readers.ts';
import type { Stain } from './stain.ts';

/** Patches of a slide that are read at once: a unit of work and of memory. */
export interface SlideBatch {
  readonly givenMicronsPerPixel: number | null;
  readonly places: readonly PatchPlace[];
  /** Of the slide, if patches are normalised. */
  readonly stain: Stain | null;
  /** Size of a patch, in pixels of level 0. */
  readonly level0: { readonly width: number; readonly height: number };
  /** Size of level 0. */
  readonly slide: { readonly width: number; readonly height: number };
}

export interface SlideReading {
  readonly readers: SlideReaders;
  readonly options: SlideOptions;
  readonly patchSizePx: number;
}

/** A patch whose region cannot be read is a finding with its place, and never a white image. */
export async function readBatch(
  folder: OpenFolder,
  relativePath: string,
  batch: SlideBatch,
  { readers, options, patchSizePx }: SlideReading,
): Promise<PreparedFile> {
  const { givenMicronsPerPixel, places, slide, stain } = batch;
  const images: PreparedImage[] = [];
  const notes: Finding[] = [];
  let blankCount = 0;
  try {
    for (const patch of await readers.cut(
      { folder, relativePath, givenMicronsPerPixel },
      places,
      patchSizePx,
      options,
      stain,
    )) {
      const { x, y } = patch.place;
      const where = `The patch at ${x}, ${y} in pixels of level 0`;
      switch (patch.outcome) {
        case 'PATCH':
          images.push({
            ...{ bytes: patch.bytes, pixelDigest: patch.pixelDigest, perceptualHash: patch.perceptualHash },
            ...{ extension: 'png', width: patchSizePx, height: patchSizePx, profile: null, flatness: null },
            ...{ nearlyBlank: false, cutFrom: { x, y, sourceWidth: slide.width, sourceHeight: slide.height } },
          });
          break;
        case 'REGION_UNREADABLE':
          notes.push({ issue: 'REGION_UNREADABLE', reason: `${where}: ${patch.reason}` });
          break;
        case 'FLAWED':
          switch (patch.flaw) {
            case 'BLANK':
              blankCount += 1;
              break;
            case 'PEN':
              notes.push({ issue: 'PEN_MARK', reason: `${where}.` });
              break;
            case 'OUT_OF_FOCUS':
              notes.push({ issue: 'OUT_OF_FOCUS', reason: `${where}.` });
              break;
          }
          break;
      }
    }
  } catch (error) {
    if (!(error instanceof SlideReaderError)) throw error;
    const [first] = places;
    const reason = `At ${places.length} patches from ${first?.x ?? 0}, ${first?.y ?? 0} on: ${error.refusal.reason}`;
    const issue = error.refusal.code === 'READER_FAILED' ? 'SLIDE_READER_FAILED' : 'SLIDE_UNREADABLE';
    return { outcome: 'REFUSED', finding: { issue, reason }, images: [] };
  }
  return { outcome: 'PREPARED', blankCount, notes, images };
}

/** What the manifest says of a patch, beside its corner; nothing for images that are not of a slide. */
export function slideColumnsOf(
  relativePath: string,
  batch: SlideBatch | undefined,
  corner: Pick<PatchPlace, 'x' | 'y'> | null,
  options: SlideOptions | null,
) {
  if (batch === undefined || corner === null || options === null) return {};
  return {
    slide: relativePath,
    level0Width: batch.level0.width,
    level0Height: batch.level0.height,
    micronsPerPixel: options.micronsPerPixel,
    tissueFraction: batch.places.find(({ x, y }) => x === corner.x && y === corner.y)?.tissueFraction ?? null,
  };
}
