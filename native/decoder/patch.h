// What the reader of slides does with every pixel of a patch, with the numbers of workers/imaging/slides.
#pragma once

#include <cstddef>
#include <cstdint>

namespace paraffin {

/**
 * See `onBackgroundInScript` of openslide.ts: RGB from premultiplied ARGB, in memory as B, G, R, A.
 * @param rgb room for three bytes a pixel.
 */
void layOnBackground(const uint8_t* bgra, size_t pixelCount, const uint8_t (&background)[3], uint8_t* rgb);

/** See `Weights` of resample.ts. */
struct Weights {
  const int32_t* first;
  const int32_t* weights;
  /** Result pixels. */
  int count;
  int tapCount;
};

/**
 * See `mixInScript` of resample.ts.
 * @param source RGB, rows of `sourceWidth` pixels, which hold every pixel that the weights name.
 * @param target room for RGB of `columns.count` x `rows.count`.
 */
void mix(const uint8_t* source, int sourceWidth, const Weights& columns, const Weights& rows, uint8_t* target);

/** See `PatchMeasures` of patch-quality.ts. */
struct Measures {
  int64_t penCount = 0;
  int64_t laplacianSum = 0;
  int64_t laplacianSquares = 0;
};

/** See `measureInScript`. @param rgb `width` x `height` pixels. */
Measures measure(const uint8_t* rgb, int width, int height);

/**
 * See `FilterRows` of workers/imaging/decoder/encode-png.ts.
 * @param rgb rows of `width` pixels. @param filtered room for `rowCount` rows of `width * 3 + 1` bytes.
 */
void filterRows(const uint8_t* rgb, int width, int firstRow, int rowCount, uint8_t* filtered);

}  // namespace paraffin
