/** Draws slides of a gigapixel with as much detail as tissue, block by block: memory holds only the encoded tiles. */
import { writeFile } from 'node:fs/promises';
import sharp, { type Sharp } from 'sharp';
import { between, createDraw, createNoise, drawStain } from '../src/synthetic/tissue-canvas.ts';
import { drawImage, TISSUE_LABELS } from '../src/synthetic/tissue.ts';
import { TILE_PX, tiffOf, type TiffDirectory } from '../test/support/slide-files.ts';

export interface SlideToDraw {
  /** Blocks of BLOCK_PX along each side. */
  readonly blocksPerSide: number;
  /** Of each level, powers of two from 1. */
  readonly downsamples: readonly number[];
  /** Tissue lies only in so many columns from the left; all other blocks are glass. */
  readonly tissueColumns?: number;
  /** In Aperio's description; null: a generic TIFF of 0.25 um/px. */
  readonly aperioMicronsPerPixel: number | null;
}

const BLOCK_PX = 1024;
const SHEET_PX = 2048;
const GLASS = Buffer.of(243, 242, 244);
/** About what scanners use. */
const JPEG = { quality: 80 } as const;
const PIXELS_PER_CM = 40_000;

/** Pieces of drawn tissue on glass; the same slide for the same arguments, and no two patches alike. */
export async function drawTissueSlide(
  file: string,
  { blocksPerSide, downsamples, tissueColumns = blocksPerSide, aperioMicronsPerPixel }: SlideToDraw,
): Promise<void> {
  const draw = createDraw(blocksPerSide);
  const sheets = TISSUE_LABELS.map((label) => drawImage(label, SHEET_PX, drawStain(draw), draw));
  const outline = createNoise(draw);
  const levels = downsamples.map((downsample) => createLevel(blocksPerSide, downsample));
  for (let row = 0; row < blocksPerSide; row += 1)
    for (let column = 0; column < blocksPerSide; column += 1) {
      const isTissue = column < tissueColumns && outline(column / 6, row / 6) > 0.35;
      const sheet = sheets[Math.floor(draw() * sheets.length)];
      const [left, top] = [0, 0].map(() => Math.floor(between(draw, 0, SHEET_PX - BLOCK_PX)));
      if (sheet === undefined || left === undefined || top === undefined) throw new Error('No sheet was drawn.');
      const block = isTissue
        ? await rawOf(
            sharp(sheet, { raw: { width: SHEET_PX, height: SHEET_PX, channels: 3 } })
              .extract({ left, top, width: BLOCK_PX, height: BLOCK_PX })
              // So that no two patches of one sheet are alike.
              .modulate({ brightness: between(draw, 0.9, 1.05) }),
          )
        : null;
      for (const level of levels) await level.put(block, column, row);
    }
  const side = blocksPerSide * BLOCK_PX;
  const directories: TiffDirectory[] = [];
  for (const [index, level] of levels.entries()) {
    const description =
      aperioMicronsPerPixel === null
        ? null
        : `Aperio Image Library v12.0.15\r\n${side}x${side} [0,0 ${side}x${side}] (256x256) JPEG/RGB Q=80${index === 0 ? `|AppMag = 40|MPP = ${aperioMicronsPerPixel}` : ''}`;
    directories.push({
      ...{ width: level.sidePx, height: level.sidePx, compression: 7, photometric: 6, isTiled: true, description },
      tiles: await level.tiles(),
      pixelsPerCm: aperioMicronsPerPixel === null ? PIXELS_PER_CM : null,
    });
  }
  await writeFile(file, tiffOf(directories));
}

const rawOf = (image: Sharp): Promise<Buffer> => image.raw().toBuffer();

function createLevel(blocksPerSide: number, downsample: number) {
  const blockPx = BLOCK_PX / downsample;
  const sidePx = blocksPerSide * blockPx;
  const tilesPerSide = Math.ceil(sidePx / TILE_PX);
  const paddedPx = tilesPerSide * TILE_PX;
  const tiles: Buffer[] = [];
  /** All pixels of a level whose blocks are smaller than its tiles. */
  const whole = blockPx < TILE_PX ? Buffer.alloc(paddedPx * paddedPx * 3, GLASS) : null;
  let glassTile: Buffer | undefined;
  const placeOf = (column: number, row: number, across: number, down: number): number =>
    ((row * blockPx) / TILE_PX + down) * tilesPerSide + (column * blockPx) / TILE_PX + across;
  const encode = (source: Buffer, sourcePx: number, left: number, top: number): Promise<Buffer> =>
    sharp(source, { raw: { width: sourcePx, height: sourcePx, channels: 3 } })
      .extract({ left, top, width: TILE_PX, height: TILE_PX })
      .jpeg(JPEG)
      .toBuffer();
  return {
    sidePx,
    /** @param block null for glass. */
    put: async (block: Buffer | null, column: number, row: number): Promise<void> => {
      const perBlock = blockPx / TILE_PX;
      if (block === null) {
        glassTile ??= await encode(Buffer.alloc(TILE_PX * TILE_PX * 3, GLASS), TILE_PX, 0, 0);
        for (let index = 0; whole === null && index < perBlock ** 2; index += 1)
          tiles[placeOf(column, row, index % perBlock, Math.floor(index / perBlock))] = glassTile;
        return;
      }
      const raw = { width: BLOCK_PX, height: BLOCK_PX, channels: 3 } as const;
      const reduced = downsample === 1 ? block : await rawOf(sharp(block, { raw }).resize(blockPx, blockPx));
      if (whole !== null) {
        for (let y = 0; y < blockPx; y += 1) {
          const to = ((row * blockPx + y) * paddedPx + column * blockPx) * 3;
          reduced.copy(whole, to, y * blockPx * 3, (y + 1) * blockPx * 3);
        }
        return;
      }
      for (let down = 0; down < perBlock; down += 1) {
        const encoded = await Promise.all(
          Array.from({ length: perBlock }, (_, across) => encode(reduced, blockPx, across * TILE_PX, down * TILE_PX)),
        );
        for (const [across, tile] of encoded.entries()) tiles[placeOf(column, row, across, down)] = tile;
      }
    },
    /** Row by row. */
    tiles: async (): Promise<readonly Buffer[]> => {
      if (whole !== null)
        for (let index = 0; index < tilesPerSide ** 2; index += 1)
          tiles.push(
            await encode(whole, paddedPx, (index % tilesPerSide) * TILE_PX, Math.floor(index / tilesPerSide) * TILE_PX),
          );
      return tiles;
    },
  };
}
