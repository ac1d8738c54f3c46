/**
 * Tiles of a slide, cut from the file that was imported. The registry keeps no whole slides, so that there is a picture
 * only as long as the file is where it was.
 */
import { DomainError } from '../../errors.ts';
import { isId } from '../../input.ts';
import type { Database } from '../../platform/db.ts';
import { findOpenSlide, OPENSLIDE_INSTALL_COMMAND } from '../../platform/openslide/library.ts';
import { openTileReaders, TileError } from '../../platform/openslide/tile-readers.ts';
import { TILE_SIZE_PX, type SlideToOpen, type TilePlace } from '../../protocol/slide-tiles.ts';
import { authorise, type Viewer } from '../access/index.ts';
import type { SlideRecord } from './datasets.records.ts';
import { createSlideStore } from './slides.store.ts';
import { createVersionStore } from './versions.store.ts';

/** Level `deepest` shows level 0 pixel by pixel, and each one before it half as many along each axis. */
export interface TileAddress {
  readonly level: number;
  readonly column: number;
  readonly row: number;
}

export interface SlideTileService extends AsyncDisposable {
  /**
   * Finds a tile of the Deep Zoom pyramid of a slide.
   * @param position of the slide in its version.
   * @returns a function that cuts it, for which it may wait some seconds and needs no database: JPEG of at most
   * TILE_SIZE_PX along each axis. It throws SLIDE_UNAVAILABLE if the slide cannot be read where it was imported from.
   * @throws DomainError NOT_FOUND for a slide or a tile that does not exist, SLIDE_UNAVAILABLE if its place is unknown.
   */
  find(viewer: Viewer, versionId: string, position: number, address: TileAddress): Promise<() => Promise<Buffer>>;
}

export interface SlideTileParts {
  readonly db: Database;
  readonly importRoots: readonly string[];
  /** Where OpenSlide is kept, and what the process that reads slides must not see. */
  readonly engineCacheDir: string;
  readonly dataDir: string;
  /** The folder from which a run has imported; null if the run is gone. */
  readonly folderOfImport: (runId: string) => Promise<string | null>;
}

/** About 20 MB. */
const TILES_KEPT = 400;

export function createSlideTileService(parts: SlideTileParts): SlideTileService {
  const { db, importRoots, engineCacheDir, dataDir, folderOfImport } = parts;
  const slides = createSlideStore(db);
  const versions = createVersionStore(db);
  const readers = openTileReaders();
  /** Those that were asked for last, by slide and address. */
  const kept = new Map<string, Promise<Buffer>>();

  const toOpen = async (versionId: string, slide: SlideRecord): Promise<SlideToOpen> => {
    const [version] = await versions.findMany([versionId]);
    const runId = version?.importRunId ?? null;
    const folderPath = runId === null ? null : await folderOfImport(runId);
    if (folderPath === null || slide.fileByteSize === null)
      throw unavailable('It is not known where its file is.', 'Import the folder again, as a new version.');
    const library = findOpenSlide(engineCacheDir);
    if (library === null)
      throw unavailable('The server has no reader of slides.', `Run "${OPENSLIDE_INSTALL_COMMAND}" on its machine.`);
    return {
      ...{ libraryFile: library.file, hiddenFolder: dataDir, folderPath, importRoots: [...importRoots] },
      ...{ file: slide.path, byteSize: slide.fileByteSize },
    };
  };

  const cut = async (key: string, slide: SlideToOpen, place: TilePlace): Promise<Buffer> => {
    try {
      return await readers.tile(key, slide, place);
    } catch (error) {
      if (!(error instanceof TileError)) throw error;
      throw unavailable(error.message, 'Put the file back where it was imported from, or import it again.');
    }
  };

  return {
    find: async (viewer, versionId, position, address) => {
      authorise(viewer, 'READER');
      const slide = isId(versionId) ? await slides.find(versionId, position) : undefined;
      if (slide === undefined)
        throw new DomainError({
          code: 'NOT_FOUND',
          message: 'This slide does not exist.',
          hint: 'DatasetVersion.slides lists the slides of a version by their positions.',
        });
      const place = placeOf(slide, address);
      if (place === undefined)
        throw new DomainError({
          code: 'NOT_FOUND',
          message: 'This tile lies outside the slide.',
          hint: `Tiles have ${TILE_SIZE_PX} px, and level 0 of a Deep Zoom pyramid has one pixel.`,
        });
      const key = `${slide.versionId} ${position}`;
      const name = `${key} ${address.level} ${address.column} ${address.row}`;
      const file = await toOpen(versionId, slide);
      return () => {
        const tile = kept.get(name) ?? cut(key, file, place);
        kept.delete(name);
        kept.set(name, tile);
        const [oldest] = kept.keys();
        if (kept.size > TILES_KEPT && oldest !== undefined) kept.delete(oldest);
        // The next request may find the slide readable again.
        tile.catch(() => kept.delete(name));
        return tile;
      };
    },
    [Symbol.asyncDispose]: () => readers[Symbol.asyncDispose](),
  };
}

/** Undefined for a tile outside the slide. */
function placeOf({ levels: [level0] }: SlideRecord, { level, column, row }: TileAddress): TilePlace | undefined {
  if (level0 === undefined) return undefined;
  const deepest = Math.ceil(Math.log2(Math.max(level0.width, level0.height)));
  if (level > deepest) return undefined;
  const downsample = 2 ** (deepest - level);
  const isOn = (length: number, index: number): boolean => index * TILE_SIZE_PX < Math.ceil(length / downsample);
  return isOn(level0.width, column) && isOn(level0.height, row) ? { downsample, column, row } : undefined;
}

function unavailable(reason: string, hint: string): DomainError {
  return new DomainError({ code: 'SLIDE_UNAVAILABLE', message: `The slide cannot be shown: ${reason}`, hint });
}
