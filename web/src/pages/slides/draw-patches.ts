/** Draws the patches of a slide over it, and finds the patch under a point. */
import OpenSeadragon from 'openseadragon';
import type { PatchColours } from './patch-colours.ts';
import type { SlidePatches } from './queries.ts';

/** A patch of fewer pixels on the screen is filled instead of outlined, because lines would hide the slide. */
const OUTLINE_MIN_PX = 6;
/** From here on a heat map lets the tissue through, because someone looks at single patches. */
const CLEAR_MIN_PX = 48;
const LINE_PX = 1.5;
const HEAT_LINE_PX = 3;
const OPACITY = { outline: 0.9, small: 0.35, heat: 0.7, clear: 0.2 } as const;
/** The chosen patch is found again where it is a few pixels of the screen. */
const CHOSEN_MIN_PX = 12;

export interface DrawnPatches {
  readonly patches: SlidePatches;
  readonly colours: PatchColours;
  /** Drawn with a frame of its own; null: none. */
  readonly chosen: number | null;
}

/** Draws those that are in view; nothing for null. */
export function drawPatches(target: HTMLCanvasElement, viewer: OpenSeadragon.Viewer, drawn: DrawnPatches | null): void {
  const [widthPx, heightPx] = [target.clientWidth, target.clientHeight];
  const density = window.devicePixelRatio;
  target.width = Math.round(widthPx * density);
  target.height = Math.round(heightPx * density);
  const context = target.getContext('2d');
  if (context === null || drawn === null || viewer.world.getItemCount() === 0) return;
  const { patches, colours, chosen } = drawn;
  const image = viewer.world.getItemAt(0);
  const origin = image.imageToViewerElementCoordinates(new OpenSeadragon.Point(0, 0));
  const corner = image.imageToViewerElementCoordinates(new OpenSeadragon.Point(patches.width, patches.height));
  const [sideX, sideY] = [corner.x - origin.x, corner.y - origin.y];
  if (sideX <= 0 || sideY <= 0) return;
  context.scale(density, density);
  const cornerOf = (patch: number): readonly [left: number, top: number] => [
    origin.x + ((patches.x[patch] ?? 0) / patches.width) * sideX,
    origin.y + ((patches.y[patch] ?? 0) / patches.height) * sideY,
  ];
  const side = Math.min(sideX, sideY);
  const isClear = side >= CLEAR_MIN_PX;
  const isOutlined = colours.isFilled ? isClear : side >= OUTLINE_MIN_PX;
  const isFilled = colours.isFilled || !isOutlined;
  const fillOpacity = !colours.isFilled ? OPACITY.small : isClear ? OPACITY.clear : OPACITY.heat;
  const linePx = colours.isFilled ? HEAT_LINE_PX : LINE_PX;
  context.lineWidth = linePx;
  for (const { colour, patches: ofColour } of colours.groups) {
    context.fillStyle = colour;
    context.strokeStyle = colour;
    for (const patch of ofColour) {
      const [left, top] = cornerOf(patch);
      if (left + sideX < 0 || top + sideY < 0 || left > widthPx || top > heightPx) continue;
      if (isFilled) {
        context.globalAlpha = fillOpacity;
        context.fillRect(left, top, sideX, sideY);
      }
      if (isOutlined) {
        context.globalAlpha = OPACITY.outline;
        context.strokeRect(left + linePx / 2, top + linePx / 2, sideX - linePx, sideY - linePx);
      }
    }
  }
  if (chosen !== null && chosen < patches.x.length) frame(context, cornerOf(chosen), sideX, sideY);
}

/** Black in white, which is seen on every colour. */
function frame(
  context: CanvasRenderingContext2D,
  [left, top]: readonly [left: number, top: number],
  sideX: number,
  sideY: number,
): void {
  const [width, height] = [Math.max(sideX, CHOSEN_MIN_PX), Math.max(sideY, CHOSEN_MIN_PX)];
  const [x, y] = [left + (sideX - width) / 2, top + (sideY - height) / 2];
  context.globalAlpha = 1;
  for (const [colour, linePx] of [
    ['#ffffff', 5],
    ['#000000', 2],
  ] as const) {
    context.strokeStyle = colour;
    context.lineWidth = linePx;
    context.strokeRect(x, y, width, height);
  }
}

/** @param x, y pixels of level 0. @returns the last patch that holds the point, which is drawn on top. */
export function patchAt(patches: SlidePatches, x: number, y: number): number | undefined {
  const place = patches.x.findLastIndex((left, patch) => {
    const top = patches.y[patch] ?? 0;
    return x >= left && x < left + patches.width && y >= top && y < top + patches.height;
  });
  return place < 0 ? undefined : place;
}
