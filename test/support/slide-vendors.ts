/** Draws small slides in the formats of scanners other than Aperio's, as far as OpenSlide reads of them. */
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import sharp from 'sharp';
import { paintedPixels, TILE_PX, tiffOf, tilesOf, type Paint, type TiffDirectory } from './slide-files.ts';

export interface VendorSlide {
  readonly width: number;
  readonly height: number;
  readonly paint: Paint;
  readonly micronsPerPixel: number;
}

const LEVEL_1 = 4;
const NDPI_FORMAT_FLAG = 65420;
const NDPI_SOURCE_LENS = 65421;
const NDPI_FOCAL_PLANE = 65424;

function levelsOf({ width, height, paint }: VendorSlide) {
  return [1, LEVEL_1].map((downsample) => {
    const size = { width: width / downsample, height: height / downsample };
    const centre = (downsample - 1) / 2;
    const data = paintedPixels(size.width, size.height, (x, y) =>
      paint(x * downsample + centre, y * downsample + centre),
    );
    return { ...size, downsample, data };
  });
}

/** Hamamatsu: each level is one JPEG in one strip, and directories have places of eight bytes. */
export async function drawNdpi(file: string, slide: VendorSlide): Promise<void> {
  const directories: TiffDirectory[] = [];
  for (const { data, width, height, downsample } of levelsOf(slide))
    directories.push({
      ...{ width, height, compression: 7, photometric: 6, isTiled: false, description: null },
      tiles: [
        await sharp(data, { raw: { width, height, channels: 3 } })
          .jpeg({ quality: 95, chromaSubsampling: '4:4:4' })
          .toBuffer(),
      ],
      pixelsPerCm: 10_000 / (slide.micronsPerPixel * downsample),
      furtherEntries: [
        [NDPI_FORMAT_FLAG, 4, [1]],
        [NDPI_SOURCE_LENS, 11, [20 / downsample]],
        [NDPI_FOCAL_PLANE, 9, [0]],
      ],
    });
  await writeFile(file, tiffOf(directories, 8));
}

/** Leica: a tiled TIFF whose description places the image, in nanometres, on the slide that it was scanned from. */
export async function drawScn(file: string, slide: VendorSlide): Promise<void> {
  const levels = levelsOf(slide);
  const nanometres = (px: number): number => Math.round(px * slide.micronsPerPixel * 1000);
  const dimensions = levels.map(
    ({ width, height }, index) => `<dimension sizeX="${width}" sizeY="${height}" r="${index}" ifd="${index}"/>`,
  );
  // The whole glass is larger than the scanned part of it: an image of all of the glass counts as its photograph.
  const description = `<?xml version="1.0"?><scn xmlns="http://www.leica-microsystems.com/scn/2010/10/01">
<collection name="drawn" sizeX="${nanometres(slide.width)}" sizeY="${nanometres(slide.height * 2)}"><image name="drawn">
<device model="drawn" version="1"/><pixels sizeX="${slide.width}" sizeY="${slide.height}">${dimensions.join('')}</pixels>
<view sizeX="${nanometres(slide.width)}" sizeY="${nanometres(slide.height)}" offsetX="0" offsetY="0"/>
<scanSettings><objectiveSettings><objective>20</objective></objectiveSettings>
<illuminationSettings><numericalAperture>0.4</numericalAperture><illuminationSource>brightfield</illuminationSource>
</illuminationSettings></scanSettings></image></collection></scn>`;
  const directories: TiffDirectory[] = [];
  for (const [index, level] of levels.entries())
    directories.push({
      ...{ width: level.width, height: level.height, compression: 7, photometric: 6, isTiled: true },
      tiles: await tilesOf(level, 'JPEG'),
      description: index === 0 ? description : null,
      pixelsPerCm: 10_000 / (slide.micronsPerPixel * level.downsample),
    });
  await writeFile(file, tiffOf(directories));
}

type DicomElement = readonly [group: number, element: number, type: string, value: Buffer | string | number];

/** Types whose length has four bytes. */
const LONG_TYPES = new Set(['OB', 'SQ']);
const UNDEFINED_LENGTH = 0xffffffff;
const WHOLE_SLIDE_IMAGE = '1.2.840.10008.5.1.4.1.1.77.1.6';
const EXPLICIT_JPEG_BASELINE = '1.2.840.10008.1.2.4.50';

/** Explicit types, little-endian (DICOM PS3.5). */
function dicomElements(elements: readonly DicomElement[]): Buffer {
  return Buffer.concat(
    elements.flatMap(([group, element, type, value]) => {
      const bytes = dicomValue(type, value);
      const head = Buffer.alloc(LONG_TYPES.has(type) ? 12 : 8);
      head.writeUInt16LE(group, 0);
      head.writeUInt16LE(element, 2);
      head.write(type, 4, 'latin1');
      const isFrames = group === 0x7fe0;
      if (head.length === 12) head.writeUInt32LE(isFrames ? UNDEFINED_LENGTH : bytes.length, 8);
      else head.writeUInt16LE(bytes.length, 6);
      return [head, bytes];
    }),
  );
}

function dicomValue(type: string, value: Buffer | string | number): Buffer {
  if (typeof value === 'number') {
    const bytes = Buffer.alloc(type === 'US' ? 2 : 4);
    if (type === 'US') bytes.writeUInt16LE(value);
    else bytes.writeUInt32LE(value);
    return bytes;
  }
  const bytes = typeof value === 'string' ? Buffer.from(value, 'latin1') : value;
  return bytes.length % 2 === 0
    ? bytes
    : Buffer.concat([bytes, Buffer.from(type === 'UI' || type === 'OB' ? '\0' : ' ')]);
}

function dicomItem(bytes: Buffer): Buffer {
  const head = Buffer.from([0xfe, 0xff, 0x00, 0xe0, 0, 0, 0, 0]);
  head.writeUInt32LE(bytes.length, 4);
  return Buffer.concat([head, bytes]);
}

/** DICOM whole slide images: a file for each level, `level-0.dcm` and `level-1.dcm`, all of one series. */
export async function drawDicom(folder: string, slide: VendorSlide): Promise<void> {
  for (const [index, level] of levelsOf(slide).entries()) {
    const instance = `1.2.826.0.1.3680043.8.498.${index + 1}`;
    const frames = await tilesOf(level, 'JPEG');
    const millimetres = ((slide.micronsPerPixel * level.downsample) / 1000).toFixed(7);
    const spacing = dicomElements([[0x0028, 0x0030, 'DS', `${millimetres}\\${millimetres}`]]);
    const measures = dicomElements([[0x0028, 0x9110, 'SQ', dicomItem(spacing)]]);
    const meta = dicomElements([
      [0x0002, 0x0002, 'UI', WHOLE_SLIDE_IMAGE],
      [0x0002, 0x0003, 'UI', instance],
      [0x0002, 0x0010, 'UI', EXPLICIT_JPEG_BASELINE],
    ]);
    const emptyTable = dicomItem(Buffer.alloc(0));
    const end = Buffer.from([0xfe, 0xff, 0xdd, 0xe0, 0, 0, 0, 0]);
    const pixels = Buffer.concat([emptyTable, ...frames.map((frame) => dicomItem(dicomValue('OB', frame))), end]);
    const kind = index === 0 ? 'ORIGINAL\\PRIMARY\\VOLUME\\NONE' : 'DERIVED\\PRIMARY\\VOLUME\\RESAMPLED';
    const dataSet = dicomElements([
      [0x0008, 0x0008, 'CS', kind],
      [0x0008, 0x0016, 'UI', WHOLE_SLIDE_IMAGE],
      [0x0008, 0x0018, 'UI', instance],
      [0x0008, 0x0060, 'CS', 'SM'],
      [0x0020, 0x000d, 'UI', '1.2.826.0.1.3680043.8.498.10'],
      [0x0020, 0x000e, 'UI', '1.2.826.0.1.3680043.8.498.11'],
      [0x0020, 0x9311, 'CS', 'TILED_FULL'],
      [0x0028, 0x0002, 'US', 3],
      [0x0028, 0x0004, 'CS', 'YBR_FULL_422'],
      [0x0028, 0x0006, 'US', 0],
      [0x0028, 0x0008, 'IS', String(frames.length)],
      [0x0028, 0x0010, 'US', TILE_PX],
      [0x0028, 0x0011, 'US', TILE_PX],
      [0x0028, 0x0100, 'US', 8],
      [0x0028, 0x0101, 'US', 8],
      [0x0028, 0x0102, 'US', 7],
      [0x0028, 0x0103, 'US', 0],
      [0x0048, 0x0006, 'UL', level.width],
      [0x0048, 0x0007, 'UL', level.height],
      [0x0048, 0x0303, 'UL', 1],
      [0x5200, 0x9229, 'SQ', dicomItem(measures)],
      [0x7fe0, 0x0010, 'OB', pixels],
    ]);
    const groupLength = dicomElements([[0x0002, 0x0000, 'UL', meta.length]]);
    const file = Buffer.concat([Buffer.alloc(128), Buffer.from('DICM'), groupLength, meta, dataSet]);
    await writeFile(path.join(folder, `level-${index}.dcm`), file);
  }
}

/**
 * MIRAX: an `.mrxs`, and beside it a folder of the same name with an index and the images. Each image is one tile of
 * the finest level, and four by four of them are one of the second; they do not overlap.
 */
export async function drawMirax(file: string, slide: VendorSlide): Promise<void> {
  const folder = file.replace(/\.mrxs$/, '');
  await mkdir(folder);
  await writeFile(file, 'MIRAX');
  const levels = levelsOf(slide);
  const across = slide.width / TILE_PX;
  const data: Buffer[] = [Buffer.from('data')];
  let dataBytes = 4;
  const id = 'drawn';
  const version = '01.02';
  const head = Buffer.from(`${version}${id}`);
  const int32s = (...values: readonly number[]): Buffer => {
    const bytes = Buffer.alloc(values.length * 4);
    for (const [at, value] of values.entries()) bytes.writeInt32LE(value, at * 4);
    return bytes;
  };
  // Behind the head: the places of both roots, the places of the lists of all levels, and the lists.
  const rootAt = head.length + 8;
  let listAt = rootAt + levels.length * 4;
  const lists: Buffer[] = [];
  const places: number[] = [];
  const sections: string[] = [];
  for (const [index, level] of levels.entries()) {
    const step = LEVEL_1 ** index;
    const entries: number[] = [];
    for (const [tile, jpeg] of (await tilesOf(level, 'JPEG')).entries()) {
      const tilesAcross = Math.ceil(level.width / TILE_PX);
      const number = Math.floor(tile / tilesAcross) * step * across + (tile % tilesAcross) * step;
      entries.push(number, dataBytes, jpeg.length, 0);
      data.push(jpeg);
      dataBytes += jpeg.length;
    }
    places.push(listAt);
    const list = int32s(0, listAt + 8, entries.length / 4, 0, ...entries);
    lists.push(list);
    listAt += list.length;
    sections.push(`[LEVEL_${index}]
OVERLAP_X = 0
OVERLAP_Y = 0
MICROMETER_PER_PIXEL_X = ${slide.micronsPerPixel * level.downsample}
MICROMETER_PER_PIXEL_Y = ${slide.micronsPerPixel * level.downsample}
IMAGE_FORMAT = JPEG
IMAGE_FILL_COLOR_BGR = 16777215
DIGITIZER_WIDTH = ${TILE_PX}
DIGITIZER_HEIGHT = ${TILE_PX}
IMAGE_CONCAT_FACTOR = ${index === 0 ? 0 : Math.log2(LEVEL_1)}`);
  }
  const hierarchy = levels.map(
    (_, index) => `HIER_0_VAL_${index} = ZoomLevel_${index}\nHIER_0_VAL_${index}_SECTION = LEVEL_${index}`,
  );
  const ini = `[GENERAL]
SLIDE_ID = ${id}
SLIDE_VERSION = ${version}
IMAGENUMBER_X = ${across}
IMAGENUMBER_Y = ${slide.height / TILE_PX}
OBJECTIVE_MAGNIFICATION = 20
[HIERARCHICAL]
HIER_COUNT = 1
NONHIER_COUNT = 0
INDEXFILE = Index.dat
HIER_0_NAME = Slide zoom level
HIER_0_COUNT = ${levels.length}
${hierarchy.join('\n')}
[DATAFILE]
FILE_COUNT = 1
FILE_0 = Data0000.dat
${sections.join('\n')}
`;
  await writeFile(path.join(folder, 'Slidedat.ini'), ini);
  const roots = int32s(rootAt, rootAt);
  await writeFile(path.join(folder, 'Index.dat'), Buffer.concat([head, roots, int32s(...places), ...lists]));
  await writeFile(path.join(folder, 'Data0000.dat'), Buffer.concat(data));
}
