/**
 * What the server and the program that cuts tiles of a slide say to each other, one JSON document a line: first the
 * program says whether it could open the slide, then it answers one request after the other.
 */
import { z } from 'zod';

/** Side of a tile; those at the right and bottom edges are smaller. */
export const TILE_SIZE_PX = 512;

/** The program's one argument. */
export const slideToOpenSchema = z.strictObject({
  libraryFile: z.string(),
  /** The data directory, which the process that reads the slide does not see. */
  hiddenFolder: z.string(),
  /** The folder of the import, and the roots within which it must still lie. */
  folderPath: z.string(),
  importRoots: z.array(z.string()),
  /** Relative to the folder. */
  file: z.string(),
  /** Of the file that was imported; another one is refused. */
  byteSize: z.int().min(0),
});
export type SlideToOpen = Readonly<z.infer<typeof slideToOpenSchema>>;

/** A tile of a grid from the top left corner, at one pixel for `downsample` x `downsample` of level 0. */
export const tilePlaceSchema = z.strictObject({
  downsample: z.number().min(1),
  column: z.int().min(0),
  row: z.int().min(0),
});
export type TilePlace = Readonly<z.infer<typeof tilePlaceSchema>>;

export const tileRequestSchema = tilePlaceSchema.extend({ id: z.int() });
export type TileRequest = Readonly<z.infer<typeof tileRequestSchema>>;

export const tileReplySchema = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('OPENED') }),
  z.strictObject({ kind: z.literal('NOT_OPENED'), reason: z.string() }),
  z.strictObject({ kind: z.literal('TILE'), id: z.int(), /** JPEG in base64. */ jpeg: z.base64() }),
  z.strictObject({ kind: z.literal('NO_TILE'), id: z.int(), reason: z.string() }),
]);
export type TileReply = Readonly<z.infer<typeof tileReplySchema>>;
