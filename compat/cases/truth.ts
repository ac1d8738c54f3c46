/** The truth: an .npz of RGB uint8 arrays by file name, as `numpy.savez` writes it. */
import yauzl from 'yauzl';
import { NpyError, readNpy } from '../../src/formats/npy.ts';
import type { RgbImage } from './verdict.ts';

/** Prefix of an entry that holds the pixels after applying the colour profile; such an entry takes precedence. */
const CONVERTED = 'CONV:';

export interface Truth {
  /** By file name. */
  readonly images: ReadonlyMap<string, RgbImage>;
  /** Entries that are not RGB uint8. */
  readonly unreadable: readonly string[];
}

/** @throws where the archive or one of its arrays cannot be read. */
export async function readTruth(npzPath: string): Promise<Truth> {
  const images = new Map<string, RgbImage>();
  const converted = new Map<string, RgbImage>();
  const unreadable: string[] = [];
  const archive = await yauzl.openPromise(npzPath);
  for await (const entry of archive.eachEntry()) {
    const name = entry.fileName.replace(/\.npy$/, '');
    const chunks: Buffer[] = [];
    for await (const chunk of await archive.openReadStreamPromise(entry)) chunks.push(Buffer.from(chunk));
    const image = rgbOf(Buffer.concat(chunks));
    if (image === null) unreadable.push(name);
    else if (name.startsWith(CONVERTED)) converted.set(name.slice(CONVERTED.length), image);
    else images.set(name, image);
  }
  return { images: new Map([...images, ...converted]), unreadable };
}

function rgbOf(npy: Buffer): RgbImage | null {
  try {
    const { shape, data } = readNpy(npy);
    const [height = 0, width = 0, channelCount] = shape;
    if (shape.length !== 3 || channelCount !== 3 || !(data instanceof Uint8Array)) return null;
    return { width, height, data };
  } catch (error) {
    if (error instanceof NpyError) return null;
    throw error;
  }
}
