#include "patches.h"

#include <algorithm>
#include <cstddef>
#include <cstring>

#include "eight.h"
#include "packed-product.h"
#include "threads.h"
#include "workspace.h"

#pragma GCC target("avx2,fma")

namespace paraffin {
namespace {

/**
 * Number of terms of a sum that are added at once, so that the right factor, 16 columns wide, stays in the first-level
 * cache.
 */
constexpr int DEPTH_AT_ONCE = 256;
constexpr int ROWS_MULTIPLE = 24;
constexpr int ROWS_MAX = 96;
constexpr int PATCHES_PER_UNIT = 8;

Workspace packedSpace;

int roundedUp(int value, int multiple) { return (value + multiple - 1) / multiple * multiple; }

/** Iterates over the windows of all images; a window's position is its row, column and image in the output. */
class Windows {
 public:
  explicit Windows(const ConvolutionShape& shape) : shape_(shape), perImage_(shape.outputHeight * shape.outputWidth) {}

  int count() const { return shape_.count * perImage_; }
  int perImage() const { return perImage_; }
  /** Values of one patch: side * side * inputChannels. */
  int size() const { return shape_.side * shape_.side * shape_.inputChannels; }
  /** True if patches are the pixels themselves, in their order. */
  bool arePixels() const { return shape_.side == 1 && shape_.stride == 1 && shape_.padding == 0; }

  /** Copies a window's pixels to `patch`, zeros beyond the border. */
  void copyPatch(const float* images, int window, float* patch) const {
    eachRow(window, [&](std::size_t pixel, int from, int to, int place) {
      const int channels = shape_.inputChannels;
      float* const row = patch + static_cast<std::size_t>(place) * shape_.side * channels;
      std::fill(row, row + from * channels, 0.0F);
      if (to > from) std::memcpy(row + from * channels, images + pixel * channels, static_cast<std::size_t>(to - from) * channels * sizeof(float));
      std::fill(row + to * channels, row + shape_.side * channels, 0.0F);
    });
  }

  /** Adds a patch to the pixels that it was copied from. */
  void addPatch(const float* patch, int window, float* images) const {
    eachRow(window, [&](std::size_t pixel, int from, int to, int place) {
      const int channels = shape_.inputChannels;
      const float* const row = patch + (static_cast<std::size_t>(place) * shape_.side + from) * channels;
      float* const target = images + pixel * channels;
      for (int value = 0; value < (to - from) * channels; value += 8) _mm256_storeu_ps(target + value, _mm256_loadu_ps(target + value) + _mm256_loadu_ps(row + value));
    });
  }

 private:
  /**
   * Calls `visit` for every row of a window: its first pixel inside the image, and the range of the window's columns
   * that are inside.
   */
  template <typename Visit>
  void eachRow(int window, Visit visit) const {
    const int place = window % perImage_;
    const int top = place / shape_.outputWidth * shape_.stride - shape_.padding;
    const int left = place % shape_.outputWidth * shape_.stride - shape_.padding;
    // A window may lie entirely outside the image, where the padding is wider than the window.
    const int from = std::clamp(-left, 0, shape_.side);
    const int to = std::max(from, std::min(shape_.side, shape_.width - left));
    for (int row = 0; row < shape_.side; row += 1) {
      const int y = top + row;
      const bool isInside = y >= 0 && y < shape_.height;
      const std::size_t pixel = isInside ? (static_cast<std::size_t>(window / perImage_) * shape_.height + y) * shape_.width + left + from : 0;
      visit(pixel, from, isInside ? to : from, row);
    }
  }

  ConvolutionShape shape_;
  int perImage_;
};

/** matrix [rows, columns] to panels of 16 columns: [columns / 16, rows, 16]. */
void packColumns(const float* matrix, int rows, int columns, float* packed) {
  parallelFor(columns / PANEL_COLUMNS, [=](int panel) {
    float* place = packed + static_cast<std::size_t>(panel) * rows * PANEL_COLUMNS;
    const float* from = matrix + panel * PANEL_COLUMNS;
    for (int row = 0; row < rows; row += 1, place += PANEL_COLUMNS, from += columns) std::memcpy(place, from, PANEL_COLUMNS * sizeof(float));
  });
}

/** matrix [rows, columns] transposed, to panels of 16 of its rows: [rows / 16, columns, 16]. */
void packRows(const float* matrix, int rows, int columns, float* packed) {
  parallelFor(rows / 8, [=](int unit) {
    const int first = unit * 8;
    float* const panel = packed + static_cast<std::size_t>(first / PANEL_COLUMNS) * columns * PANEL_COLUMNS + first % PANEL_COLUMNS;
    for (int column = 0; column < columns; column += 8) {
      Eight eight[8];
      for (int row = 0; row < 8; row += 1) eight[row] = _mm256_loadu_ps(matrix + static_cast<std::size_t>(first + row) * columns + column);
      transpose(eight);
      for (int row = 0; row < 8; row += 1) _mm256_store_ps(panel + static_cast<std::size_t>(column + row) * PANEL_COLUMNS, eight[row]);
    }
  });
}

/** product [rows, columns] = left [rows, depth] times the packed right factor, on one thread. */
void multiplyPatches(int rows, int depth, int columns, const float* left, std::size_t leftStep, const float* packed, float* product, std::size_t productStep) {
  const ProductKernel& kernel = *productKernel(Factors::FLOAT32);
  const std::size_t panelStep = static_cast<std::size_t>(depth) * PANEL_COLUMNS;
  for (int from = 0; from < depth; from += DEPTH_AT_ONCE) {
    const int part = std::min(DEPTH_AT_ONCE, depth - from);
    multiplyPacked(kernel, rows, columns / PANEL_COLUMNS, {part, left + from, leftStep, 1, packed + static_cast<std::size_t>(from) * PANEL_COLUMNS, panelStep, product, productStep, PANEL_COLUMNS, from > 0});
  }
}

/** Finishes the rows of the output that were just computed, while they are still in the cache. */
void finishRows(const Epilogue* epilogue, int first, int rows, int columns, float* output) {
  if (epilogue == nullptr) return;
  for (int row = first; row < first + rows; row += 1) {
    const std::size_t place = static_cast<std::size_t>(row) * columns;
    for (int column = 0; column < columns; column += 8)
      _mm256_storeu_ps(output + place + column, finish(*epilogue, _mm256_loadu_ps(output + place + column), column, place + column));
  }
}

/**
 * The number of rows of `width` floats that fit in the cache, a multiple of the rows of every kernel. Fewer rows than 24
 * would have to read the whole filter too often.
 */
int rowsInL2(int width) { return std::clamp(L2_FLOATS / 2 / width / ROWS_MULTIPLE * ROWS_MULTIPLE, ROWS_MULTIPLE, ROWS_MAX); }

/** Like `multiplyPatches` for consecutive rows, on all threads; applies the epilogue. */
void multiplyPixels(int rows, int depth, int columns, const float* left, const float* packed, const Epilogue* epilogue, float* product) {
  const int rowsAtOnce = rowsInL2(depth);
  parallelFor((rows + rowsAtOnce - 1) / rowsAtOnce, [=](int unit) {
    const int first = unit * rowsAtOnce;
    const int count = std::min(rowsAtOnce, rows - first);
    multiplyPatches(count, depth, columns, left + static_cast<std::size_t>(first) * depth, depth, packed, product + static_cast<std::size_t>(first) * columns, columns);
    finishRows(epilogue, first, count, columns, product);
  });
}

}  // namespace

void convolveByPatches(const ConvolutionShape& shape, const float* images, const float* filter, const Epilogue* epilogue, float* output) {
  const Windows windows(shape);
  const int depth = windows.size();
  const int columns = shape.outputChannels;
  float* const packed = packedSpace.take(static_cast<std::size_t>(depth) * columns);
  packColumns(filter, depth, columns, packed);
  if (windows.arePixels()) return multiplyPixels(windows.count(), depth, columns, images, packed, epilogue, output);
  const int rowsAtOnce = rowsInL2(depth);
  parallelFor((windows.count() + rowsAtOnce - 1) / rowsAtOnce, [=](int unit) {
    static thread_local Workspace space;
    const int first = unit * rowsAtOnce;
    const int rows = std::min(rowsAtOnce, windows.count() - first);
    float* const patches = space.take(static_cast<std::size_t>(rowsAtOnce) * depth);
    for (int row = 0; row < rows; row += 1) windows.copyPatch(images, first + row, patches + static_cast<std::size_t>(row) * depth);
    multiplyPatches(rows, depth, columns, patches, depth, packed, output + static_cast<std::size_t>(first) * columns, columns);
    finishRows(epilogue, first, rows, columns, output);
  });
}

void inputGradientByPatches(const ConvolutionShape& shape, const float* filter, const float* outputGradient, float* gradient) {
  const Windows windows(shape);
  const int columns = windows.size();
  const int depth = shape.outputChannels;
  float* const packed = packedSpace.take(static_cast<std::size_t>(depth) * columns);
  packRows(filter, columns, depth, packed);
  if (windows.arePixels()) return multiplyPixels(windows.count(), depth, columns, outputGradient, packed, nullptr, gradient);
  // Patches of an image overlap, so each image is processed by a single thread.
  const std::size_t imageSize = static_cast<std::size_t>(shape.height) * shape.width * shape.inputChannels;
  const int rowsAtOnce = rowsInL2(columns);
  parallelFor(shape.count, [=](int image) {
    static thread_local Workspace space;
    float* const patches = space.take(static_cast<std::size_t>(rowsAtOnce) * columns);
    std::fill_n(gradient + image * imageSize, imageSize, 0.0F);
    for (int first = 0; first < windows.perImage(); first += rowsAtOnce) {
      const int rows = std::min(rowsAtOnce, windows.perImage() - first);
      const int window = image * windows.perImage() + first;
      multiplyPatches(rows, depth, columns, outputGradient + static_cast<std::size_t>(window) * depth, depth, packed, patches, columns);
      for (int row = 0; row < rows; row += 1) windows.addPatch(patches + static_cast<std::size_t>(row) * columns, window + row, gradient);
    }
  });
}

void filterGradientByPatches(const ConvolutionShape& shape, const float* images, const float* outputGradient, float* gradient) {
  static Workspace patchSpace;
  static Workspace gradientSpace;
  const Windows windows(shape);
  const int rows = windows.size();
  const int paddedRows = roundedUp(rows, PANEL_COLUMNS);
  const int columns = shape.outputChannels;
  if (windows.count() == 0) {
    std::fill_n(gradient, static_cast<std::size_t>(rows) * columns, 0.0F);
    return;
  }
  const int capacity = std::min(windows.count(), std::clamp(L3_FLOATS / 4 / (paddedRows + columns) / PATCHES_PER_UNIT * PATCHES_PER_UNIT, 64, DEPTH_AT_ONCE));
  const std::size_t panelStep = static_cast<std::size_t>(capacity + 1) * PANEL_COLUMNS;
  float* const patches = patchSpace.take(panelStep * (paddedRows / PANEL_COLUMNS));
  float* const gradients = gradientSpace.take(panelStep * (columns / PANEL_COLUMNS));
  for (int first = 0; first < windows.count(); first += capacity) {
    const int count = std::min(capacity, windows.count() - first);
    parallelFor((count + PATCHES_PER_UNIT - 1) / PATCHES_PER_UNIT, [=](int unit) {
      static thread_local Workspace space;
      float* const patch = space.take(paddedRows);
      std::fill(patch + rows, patch + paddedRows, 0.0F);
      for (int place = unit * PATCHES_PER_UNIT; place < std::min(count, (unit + 1) * PATCHES_PER_UNIT); place += 1) {
        windows.copyPatch(images, first + place, patch);
        for (int row = 0; row < paddedRows; row += PANEL_COLUMNS) std::memcpy(patches + row / PANEL_COLUMNS * panelStep + place * PANEL_COLUMNS, patch + row, PANEL_COLUMNS * sizeof(float));
        const float* const windowGradient = outputGradient + static_cast<std::size_t>(first + place) * columns;
        for (int column = 0; column < columns; column += PANEL_COLUMNS) std::memcpy(gradients + column / PANEL_COLUMNS * panelStep + place * PANEL_COLUMNS, windowGradient + column, PANEL_COLUMNS * sizeof(float));
      }
    });
    parallelFor(paddedRows / PANEL_COLUMNS, [=](int panel) {
      const int panelRows = std::min(PANEL_COLUMNS, rows - panel * PANEL_COLUMNS);
      multiplyPacked(*productKernel(Factors::FLOAT32), panelRows, columns / PANEL_COLUMNS,
                     {count, patches + panel * panelStep, 1, PANEL_COLUMNS, gradients, panelStep, gradient + static_cast<std::size_t>(panel) * PANEL_COLUMNS * columns, static_cast<std::size_t>(columns), PANEL_COLUMNS, first > 0});
    });
  }
}

}  // namespace paraffin
