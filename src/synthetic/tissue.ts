/**
 * SYNTHETIC images that resemble H&E tissue, for machines without real images. They show that the program works, but
 * nothing about tissue, so they must be marked as synthetic wherever they are shown.
 */
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import sharp from 'sharp';
import {
  between,
  createCanvas,
  createDraw,
  createNoise,
  renderTissue,
  drawStain,
  fillBlob,
  type Canvas,
  type Draw,
  type Noise,
  type Stain,
} from './tissue-canvas.ts';

/** Four ways in which cells are arranged. */
export const TISSUE_LABELS = ['gland', 'lymphoid', 'stroma', 'tumour'] as const;
export type TissueLabel = (typeof TISSUE_LABELS)[number];

export interface TissueOptions {
  /** Created if missing: one folder for each label, and labels.csv (path, label, group). */
  readonly outDir: string;
  readonly imagesPerLabel: number;
  /** At about 0.5 um/px: a nucleus is 12 to 20 px long whatever the image's size. */
  readonly imageSizePx: number;
  readonly seed: number;
  /** Number of patients, each with its own stain and all labels. */
  readonly groups: number;
}

export interface DrawnTissue {
  readonly imageCount: number;
  readonly labelNames: readonly TissueLabel[];
  readonly labelsCsvPath: string;
}

/** Draws JPEGs; the same options draw the same pixels. Throws RangeError for invalid options. */
export async function drawTissue({
  outDir,
  imagesPerLabel,
  imageSizePx,
  seed,
  groups,
}: TissueOptions): Promise<DrawnTissue> {
  if (!(Number.isInteger(imagesPerLabel) && imagesPerLabel > 0))
    throw new RangeError('imagesPerLabel must be a positive integer.');
  if (!(Number.isInteger(imageSizePx) && imageSizePx >= 32 && imageSizePx <= 4096))
    throw new RangeError('imageSizePx must be an integer from 32 to 4096.');
  if (!(Number.isInteger(groups) && groups > 0)) throw new RangeError('groups must be a positive integer.');
  const stains = Array.from({ length: groups }, (_, group) => drawStain(createDraw(seed * 7919 + group * 104_729)));
  const rows = ['path,label,group'];
  for (const [labelIndex, label] of TISSUE_LABELS.entries()) {
    await mkdir(path.join(outDir, label), { recursive: true });
    for (let index = 0; index < imagesPerLabel; index += 1) {
      const group = index % groups;
      const draw = createDraw(seed * 1_000_003 + labelIndex * 65_537 + index * 31);
      const stain = stains[group];
      if (stain === undefined) continue;
      const file = `${label}/patient${String(group + 1).padStart(2, '0')}-${String(index).padStart(4, '0')}.jpg`;
      const pixels = drawImage(label, imageSizePx, stain, draw);
      await sharp(pixels, { raw: { width: imageSizePx, height: imageSizePx, channels: 3 } })
        .jpeg({ quality: 92 })
        .toFile(path.join(outDir, file));
      rows.push(`${file},${label},patient${String(group + 1).padStart(2, '0')}`);
    }
  }
  const labelsCsvPath = path.join(outDir, 'labels.csv');
  await writeFile(labelsCsvPath, `${rows.join('\n')}\n`);
  return { imageCount: rows.length - 1, labelNames: TISSUE_LABELS, labelsCsvPath };
}

/** One image, RGB uint8 `[imageSizePx, imageSizePx, 3]`. */
export function drawImage(label: TissueLabel, imageSizePx: number, stain: Stain, draw: Draw): Buffer {
  const canvas = createCanvas(imageSizePx);
  const noise = createNoise(draw);
  PAINTERS[label](canvas, draw, noise);
  if (draw() < 0.5) drawCleft(canvas, draw, noise);
  return renderTissue(canvas, stain, draw);
}

type Painter = (canvas: Canvas, draw: Draw, noise: Noise) => void;

const PAINTERS: Readonly<Record<TissueLabel, Painter>> = {
  /** Open rings of tall cells around lumens, in loose stroma. */
  gland: (canvas, draw, noise) => {
    drawFibres(canvas, draw, noise, 0.5);
    scatterNuclei(canvas, draw, noise, {
      perMegapixel: 900,
      longPx: [7, 10],
      elongation: [2, 3.2],
      raggedness: 0.05,
      spacing: 0.8,
    });
    const placed: { x: number; y: number; radius: number }[] = [];
    for (let attempt = 0; attempt < 200; attempt += 1) {
      const radius = between(draw, 17, 34);
      const x = between(draw, -10, canvas.sizePx + 10);
      const y = between(draw, -10, canvas.sizePx + 10);
      if (placed.some((other) => Math.hypot(other.x - x, other.y - y) < other.radius + radius + 22)) continue;
      placed.push({ x, y, radius });
      drawGland(canvas, draw, noise, x, y, radius);
    }
  },
  /** Small round dark nuclei, side by side. */
  lymphoid: (canvas, draw, noise) => {
    drawGround(canvas, noise, 0.34, 0.2);
    scatterNuclei(canvas, draw, noise, {
      perMegapixel: 9500,
      longPx: [4.6, 6.4],
      elongation: [1, 1.18],
      raggedness: 0.04,
      spacing: 1.75,
    });
  },
  /** Wavy fibres with few long nuclei along them. */
  stroma: (canvas, draw, noise) => {
    const direction = drawFibres(canvas, draw, noise, 1);
    scatterNuclei(canvas, draw, noise, {
      perMegapixel: 1900,
      longPx: [9, 14],
      elongation: [3, 5],
      raggedness: 0.05,
      spacing: 0.9,
      direction,
    });
  },
  /** Large ragged nuclei of many sizes with nucleoli, without order, cell bodies abutting. */
  tumour: (canvas, draw, noise) => {
    drawGround(canvas, noise, 0.62, 0.3);
    scatterNuclei(canvas, draw, noise, {
      perMegapixel: 2900,
      longPx: [7, 13],
      elongation: [1.05, 1.7],
      raggedness: 0.2,
      spacing: 1.35,
      nucleoli: true,
    });
  },
};

/** Cytoplasm without structure. */
function drawGround(canvas: Canvas, noise: Noise, level: number, unevenness: number): void {
  for (let index = 0; index < canvas.eosin.length; index += 1) {
    const x = index % canvas.sizePx;
    const y = Math.floor(index / canvas.sizePx);
    const cloud = 0.6 * noise(x / 34, y / 34) + 0.4 * noise(x / 6 + 50, y / 6);
    canvas.eosin[index] = level + unevenness * (cloud - 0.5) * 2;
    canvas.haematoxylin[index] = 0.07 + 0.06 * noise(x / 3, y / 3 + 90);
  }
}

/** Bundles of collagen. Returns a function that gives the direction of the fibres at a point, in radians. */
function drawFibres(canvas: Canvas, draw: Draw, noise: Noise, density: number): (x: number, y: number) => number {
  const angle = between(draw, 0, Math.PI);
  const cos = Math.cos(angle);
  const sin = Math.sin(angle);
  const wavePx = between(draw, 60, 110);
  const bend = between(draw, 14, 26);
  /** Across the fibres, bent by a slow wave. */
  const across = (x: number, y: number): number =>
    y * cos - x * sin + bend * Math.sin((x * cos + y * sin) / wavePx + 4 * noise(x / 150, y / 150));
  for (let index = 0; index < canvas.eosin.length; index += 1) {
    const x = index % canvas.sizePx;
    const y = Math.floor(index / canvas.sizePx);
    const along = (x * cos + y * sin) / 40;
    const u = across(x, y);
    const bundle = noise(u / 11, along * 0.6 + 30);
    const strand = noise(u / 2.6, along + 7);
    const gap = bundle < 0.24 * (2 - density) ? 0.45 : 1;
    canvas.eosin[index] = gap * (0.22 + 0.45 * bundle + 0.35 * strand * density);
    canvas.haematoxylin[index] = 0.04 + 0.05 * strand;
  }
  return (x, y) => Math.atan2(across(x, y) - across(x + 1, y), across(x, y + 1) - across(x, y));
}

interface NucleiOptions {
  readonly perMegapixel: number;
  readonly longPx: readonly [number, number];
  /** Length over breadth. */
  readonly elongation: readonly [number, number];
  readonly raggedness: number;
  /** Minimum distance of two nuclei, in half lengths of a nucleus. */
  readonly spacing: number;
  readonly direction?: (x: number, y: number) => number;
  readonly nucleoli?: boolean;
}

function scatterNuclei(canvas: Canvas, draw: Draw, noise: Noise, options: NucleiOptions): void {
  const count = Math.round((options.perMegapixel * canvas.sizePx * canvas.sizePx) / 1e6);
  const placed: { x: number; y: number }[] = [];
  for (let attempt = 0; attempt < count * 4 && placed.length < count; attempt += 1) {
    const x = between(draw, -4, canvas.sizePx + 4);
    const y = between(draw, -4, canvas.sizePx + 4);
    const longPx = between(draw, ...options.longPx);
    const shortPx = longPx / between(draw, ...options.elongation);
    const clearPx = options.spacing * longPx;
    if (placed.some((other) => Math.abs(other.x - x) < clearPx && Math.hypot(other.x - x, other.y - y) < clearPx))
      continue;
    placed.push({ x, y });
    const angle =
      options.direction === undefined
        ? between(draw, 0, Math.PI)
        : options.direction(x, y) + between(draw, -0.15, 0.15);
    drawNucleus(
      canvas,
      draw,
      noise,
      { x, y, longPx, shortPx, angle, raggedness: options.raggedness, phase: between(draw, 0, 6.3) },
      options.nucleoli === true,
    );
  }
}

function drawNucleus(
  canvas: Canvas,
  draw: Draw,
  noise: Noise,
  blob: Parameters<typeof fillBlob>[1],
  withNucleolus: boolean,
): void {
  const darkness = between(draw, 0.75, 1.3) * (withNucleolus ? 0.85 : 1);
  fillBlob(canvas, blob, (index, depth, cover, x, y) => {
    const chromatin = 0.55 + 0.6 * noise(x / 2.2 + blob.phase * 9, y / 2.2);
    const membrane = depth < 0.22 ? 1.25 : 1;
    const before = canvas.haematoxylin[index] ?? 0;
    canvas.haematoxylin[index] = before + cover * Math.max(0, darkness * chromatin * membrane - before * 0.3);
    canvas.eosin[index] = (canvas.eosin[index] ?? 0) * (1 - 0.55 * cover);
  });
  if (!withNucleolus) return;
  const spot = {
    ...blob,
    x: blob.x + between(draw, -2, 2),
    y: blob.y + between(draw, -2, 2),
    longPx: 1.9,
    shortPx: 1.6,
    raggedness: 0,
  };
  fillBlob(canvas, spot, (index, _depth, cover) => {
    canvas.haematoxylin[index] = (canvas.haematoxylin[index] ?? 0) + 0.7 * cover;
  });
}

/** A ring of tall cells, nuclei at their feet, around an empty lumen. */
function drawGland(canvas: Canvas, draw: Draw, noise: Noise, x: number, y: number, radiusPx: number): void {
  const shape = { x, y, angle: between(draw, 0, Math.PI), raggedness: 0.12, phase: between(draw, 0, 6.3) };
  const squeeze = between(draw, 0.62, 1);
  const wallPx = between(draw, 11, 15);
  fillBlob(canvas, { ...shape, longPx: radiusPx, shortPx: radiusPx * squeeze }, (index, _depth, cover, px, py) => {
    canvas.eosin[index] = (canvas.eosin[index] ?? 0) * (1 - cover) + cover * (0.5 + 0.2 * noise(px / 4, py / 4));
    canvas.haematoxylin[index] = (canvas.haematoxylin[index] ?? 0) * (1 - cover) + cover * 0.13;
  });
  const lumenLongPx = Math.max(4, radiusPx - wallPx);
  const lumenShortPx = Math.max(3, radiusPx * squeeze - wallPx);
  fillBlob(canvas, { ...shape, longPx: lumenLongPx, shortPx: lumenShortPx }, (index, _depth, cover, px, py) => {
    const mucus = 0.03 + 0.08 * noise(px / 9, py / 9);
    canvas.eosin[index] = (canvas.eosin[index] ?? 0) * (1 - cover) + cover * mucus;
    canvas.haematoxylin[index] = (canvas.haematoxylin[index] ?? 0) * (1 - cover) + cover * 0.02;
  });
  const nucleusCount = Math.round((2 * Math.PI * radiusPx * Math.sqrt(squeeze)) / 8.5);
  for (let index = 0; index < nucleusCount; index += 1) {
    const theta = (index / nucleusCount) * 2 * Math.PI + between(draw, -0.05, 0.05);
    const distance = 1 - between(draw, 4.5, 6.5) / radiusPx;
    const ragged =
      1 + shape.raggedness * (0.6 * Math.sin(2 * theta + shape.phase) + 0.4 * Math.sin(5 * theta + 2 * shape.phase));
    const along = radiusPx * distance * ragged * Math.cos(theta);
    const across = radiusPx * squeeze * distance * ragged * Math.sin(theta);
    const cos = Math.cos(shape.angle);
    const sin = Math.sin(shape.angle);
    const blob = {
      x: x + along * cos - across * sin,
      y: y + along * sin + across * cos,
      longPx: between(draw, 5, 6.6),
      shortPx: between(draw, 2.9, 3.8),
      angle: shape.angle + Math.atan2(across, along),
      raggedness: 0.05,
      phase: between(draw, 0, 6.3),
    };
    drawNucleus(canvas, draw, noise, blob, false);
  }
}

/** Tissue tears when it is cut: a slit of glass. */
function drawCleft(canvas: Canvas, draw: Draw, noise: Noise): void {
  const blob = {
    x: between(draw, 0, canvas.sizePx),
    y: between(draw, 0, canvas.sizePx),
    longPx: between(draw, 30, 90),
    shortPx: between(draw, 2.5, 7),
    angle: between(draw, 0, Math.PI),
    raggedness: 0.15,
    phase: between(draw, 0, 6.3),
  };
  fillBlob(canvas, blob, (index, _depth, cover, x, y) => {
    const left = 1 - cover * (0.75 + 0.25 * noise(x / 5, y / 5));
    canvas.eosin[index] = (canvas.eosin[index] ?? 0) * left;
    canvas.haematoxylin[index] = (canvas.haematoxylin[index] ?? 0) * left;
  });
}
