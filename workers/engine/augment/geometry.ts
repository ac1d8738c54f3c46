/** Cropping, mirroring, rotation and resizing as one resampling on the device. */
import { asRank4, runOp, scoped, stringAttr, tf, typeAttr, type Tensor4D } from '../tensorflow.ts';
import type { ViewGeometry } from './parameters.ts';

const TRANSFORM_ATTRS = [
  typeAttr('dtype', 'float32'),
  stringAttr('interpolation', 'BILINEAR'),
  stringAttr('fill_mode', 'NEAREST'),
];

/**
 * Views `[N, viewSizePx, viewSizePx, 3]` of images `[N, H, W, 3]` (float32), one geometry for each image, by bilinear
 * interpolation between pixel centres. A view that shrinks its crop more than twice would alias: keep sources within
 * twice the view's side.
 */
export function resampleViews(images: Tensor4D, geometries: readonly ViewGeometry[], viewSizePx: number): Tensor4D {
  return scoped(() => {
    const transforms = tf.tensor2d(
      geometries.flatMap((geometry) => [...projectiveTransform(geometry, viewSizePx)]),
      [geometries.length, 8],
    );
    const outputShape = tf.tensor1d([viewSizePx, viewSizePx], 'int32');
    return asRank4(
      runOp('ImageProjectiveTransformV3', TRANSFORM_ATTRS, [images, transforms, outputShape, tf.scalar(0)]),
    );
  });
}

/**
 * The eight numbers of ImageProjectiveTransformV3: it reads output pixel (x, y) at input (a0 x + a1 y + a2, b0 x + b1 y
 * + b2), in pixel indices, so that an index and the centre of its pixel differ by half a pixel in both input and
 * output.
 */
function projectiveTransform({ crop, flipped, quarterTurnCount }: ViewGeometry, viewSizePx: number): readonly number[] {
  // Maps the view's unit square (u to the right, v down) to the crop's by undoing the rotation and then the mirroring.
  const [uu, uv, u0, vu, vv, v0] = inverseQuarterTurns(quarterTurnCount);
  const mirror = flipped ? -1 : 1;
  const shift = flipped ? 1 : 0;
  const row = (
    extent: number,
    start: number,
    byU: number,
    byV: number,
    constant: number,
  ): readonly [number, number, number] => {
    const perX = (extent * byU) / viewSizePx;
    const perY = (extent * byV) / viewSizePx;
    return [perX, perY, start + extent * constant + (perX + perY) / 2 - 0.5];
  };
  return [
    ...row(crop.width, crop.left, mirror * uu, mirror * uv, shift + mirror * u0),
    ...row(crop.height, crop.top, vu, vv, v0),
    0,
    0,
  ];
}

/** Coefficients (of u, of v, constant) that give u and v before the counter-clockwise quarter turns. */
function inverseQuarterTurns(
  quarterTurnCount: ViewGeometry['quarterTurnCount'],
): readonly [number, number, number, number, number, number] {
  switch (quarterTurnCount) {
    case 0:
      return [1, 0, 0, 0, 1, 0];
    case 1:
      return [0, -1, 1, 1, 0, 0];
    case 2:
      return [-1, 0, 1, 0, -1, 1];
    case 3:
      return [0, 1, 0, -1, 0, 1];
  }
}
