/** Reads one source of an import, a file or a batch of a slide's patches, within the memory that all of them share. */
import type { OpenFolder } from '../../src/platform/open-folder.ts';
import { REQUESTS_PER_DECODER } from './decoder/decoder-limits.ts';
import type { FileToPrepare, ImageDecoders, PreparedFile } from './decoder/image-decoders.ts';
import type { ImageTraits } from './find-masks.ts';
import type { Finding } from './formats/image-header.ts';
import type { ReadFile } from './read-file.ts';
import type { HeldResources, InOrderLimits } from './in-order.ts';
import type { SourceImage } from './listing.ts';
import type { ImportLayout } from './plan-import.ts';
import { readBatch, type SlideBatch, type SlideReading } from './slides/read-batch.ts';
import type { SharedSlides } from './slides/shared-slides.ts';
import { FILE_BYTES_MAX, openSourceFile, SourceFileError } from './source-file.ts';

export interface ReadingOptions {
  readonly folder: OpenFolder;
  readonly layout: ImportLayout;
  /** Side of the patches that images are cut into; null keeps images whole. */
  readonly patchSizePx: number | null;
  /** Significant bits of the samples of 16-bit files that do not state them; null or undefined: unknown. */
  readonly sampleBits?: number | null;
  /** Decodes the files. The caller closes it. */
  readonly decoders: ImageDecoders;
  /** Memory for images that are being decoded or wait to be stored, in bytes; default: DECODING_BYTES. */
  readonly decodingBytes?: number;
  /** Required by layout SLIDES, otherwise ignored. */
  readonly slides?: SlideReading | null;
}

/** Enough for the largest image that is cut, 16,384 x 16,384 px, and its patches. A larger one is refused. */
export const DECODING_BYTES = 1536 * 1024 * 1024;
/** Enough that no core is idle while the next image in order is still being decoded. */
const IMAGES_AHEAD_PER_CORE = 8;

/** The resources that sources share, each taken in this order. */
export type MemoryKind = 'fileBytes' | 'decoders' | 'decodingBytes';

/** Batches of slides that are shared: enough to read on behind a slide that another worker has. */
const SHARED_BATCHES_AHEAD = 96;

/**
 * What the sources that are read at once may hold together.
 * @param isShared whether other workers read some of them.
 */
export function readingLimitsOf(
  { decoders, decodingBytes = DECODING_BYTES }: Pick<ReadingOptions, 'decoders' | 'decodingBytes'>,
  isShared = false,
): InOrderLimits<MemoryKind> {
  return {
    windowSize: Math.max(isShared ? SHARED_BATCHES_AHEAD : 8, decoders.processCount * IMAGES_AHEAD_PER_CORE),
    shared: { fileBytes: FILE_BYTES_MAX, decoders: decoders.requestCount, decodingBytes },
  };
}

/** In labelled folders an image without a label cannot be in the version. */
export function mayBeKept({ label }: SourceImage, layout: ImportLayout): boolean {
  return layout !== 'FOLDER_PER_LABEL' || label !== null;
}

/**
 * Reads and decodes a source, and encodes what is cut from it. A source that cannot be used is REFUSED with its reason.
 * @param room of `readingLimitsOf`.
 * @param shared with other workers; null: nothing is.
 * @throws Error if no decoder or reader of slides starts.
 */
export async function readSource(
  options: ReadingOptions,
  source: SourceImage,
  room: HeldResources<MemoryKind>,
  shared: SharedSlides | null = null,
): Promise<ReadFile> {
  const { folder, layout, patchSizePx } = options;
  if (source.slide !== undefined) return readSlide(options, source, source.slide, room, shared);
  const opened = await openSourceFile(folder, source.relativePath, (byteCount) => room.take('fileBytes', byteCount));
  if ('issue' in opened) {
    const facts = await folder.factsOf(source.relativePath);
    return { facts, byteSize: 0, prepared: refused(opened) };
  }
  await using file = opened;
  const { byteSize, facts } = file;
  if (!mayBeKept(source, layout)) return { facts, byteSize, prepared: refused({ issue: 'NO_LABEL' }) };
  await room.take('decoders', 1);
  const prepared = await prepareFile(options, {
    ...{ file, patchSizePx, measuresFlatness: false },
    reserve: (byteCount) => room.take('decodingBytes', byteCount),
  });
  const storedBytes = prepared.images.reduce((sum, image) => sum + image.bytes.length, 0);
  // An image that was too small for a reservation takes its memory here; any other has reserved more than that.
  await room.take('decodingBytes', storedBytes);
  room.keep('decodingBytes', storedBytes);
  room.keep('decoders', 0);
  room.keep('fileBytes', 0);
  const images = prepared.images.map((image) => ({ ...image, byteLength: image.bytes.length }));
  return { facts, byteSize, prepared: { ...prepared, images } };
}

function refused(finding: Finding): PreparedFile & { readonly images: readonly [] } {
  return { outcome: 'REFUSED', finding, images: [] };
}

/** Readers of slides stand in for decoders, of which there are as many; each has one batch at a time. */
async function readSlide(
  { folder, slides }: ReadingOptions,
  source: SourceImage,
  batch: SlideBatch,
  room: HeldResources<MemoryKind>,
  shared: SharedSlides | null,
): Promise<ReadFile> {
  if (slides == null) throw new Error('A slide was planned without readers of slides.');
  await room.take('decoders', REQUESTS_PER_DECODER);
  const { patchSizePx } = slides;
  await room.take('decodingBytes', batch.places.length * patchSizePx * (patchSizePx * 3 + 1));
  const read = async (): Promise<ReadFile> => {
    const facts = await folder.factsOf(source.relativePath);
    const prepared = await readBatch(folder, source.relativePath, batch, slides);
    const images = prepared.images.map((image) => ({ ...image, byteLength: image.bytes.length }));
    const byteSize = images.reduce((sum, { byteLength }) => sum + byteLength, 0);
    return { facts, byteSize, prepared: { ...prepared, images } };
  };
  const release = (): void => room.keep('decoders', 0);
  const { abandoned } = room;
  const file = shared === null ? await read() : await shared.fileOf(source, { abandoned, release }, read);
  room.keep('decodingBytes', file.byteSize);
  release();
  return file;
}

async function prepareFile(
  { decoders, sampleBits = null, decodingBytes = DECODING_BYTES }: ReadingOptions,
  request: Pick<FileToPrepare, 'file' | 'patchSizePx' | 'measuresFlatness' | 'reserve'>,
): Promise<PreparedFile> {
  try {
    return await decoders.prepare({ ...request, sampleBits, decodingBytesMax: decodingBytes });
  } catch (error) {
    if (!(error instanceof SourceFileError)) throw error;
    return refused({ issue: 'UNREADABLE', reason: 'The file cannot be read completely. Copy or download it again.' });
  }
}

/** Reads the whole file, one after another, so that there is memory for it. Null for a file that is not read. */
export async function examineImage(options: ReadingOptions, relativePath: string): Promise<ImageTraits | null> {
  const hasRoom = (): Promise<void> => Promise.resolve();
  const opened = await openSourceFile(options.folder, relativePath, hasRoom);
  if ('issue' in opened) return null;
  await using file = opened;
  const { images } = await prepareFile(options, { file, patchSizePx: null, measuresFlatness: true, reserve: hasRoom });
  const [image] = images;
  if (image === undefined || image.flatness === null) return null;
  return { width: image.width, height: image.height, flatness: image.flatness };
}
