#include "winograd.h"

#include <algorithm>
#include <cstddef>

#include "eight.h"
#include "packed-product.h"
#include "threads.h"
#include "workspace.h"

// The whole library must load on any processor; only these functions need AVX2, and op.h registers them only if the
// processor has it.
#pragma GCC target("avx2,fma")

namespace paraffin {
namespace {

constexpr int TAP_COUNT = 16;
constexpr int TILES_PER_UNIT = 8;

/**
 * The offset of the value of a tap, a tile and a channel, in floats: tap * tapStep + (channel / 16) * panelStep + tile
 * * tileStep + channel % 16. Steps between taps are never a power of two: 16 streams to the same few lines of the cache
 * would evict each other.
 */
struct Layout {
  std::size_t tapStep;
  std::size_t panelStep;
  std::size_t tileStep;

  /** All channels of a tile together: the left factor of a product, by rows. */
  static Layout byTile(int tileCount, int channels) {
    return {static_cast<std::size_t>(tileCount) * channels + PANEL_COLUMNS, PANEL_COLUMNS, static_cast<std::size_t>(channels)};
  }

  /** Sixteen channels of all tiles together. */
  static Layout byPanel(int tileCount, int channels) {
    const std::size_t panelStep = static_cast<std::size_t>(tileCount + 1) * PANEL_COLUMNS;
    return {panelStep * (channels / PANEL_COLUMNS) + PANEL_COLUMNS, panelStep, PANEL_COLUMNS};
  }

  std::size_t size() const { return TAP_COUNT * tapStep; }
  std::size_t offsetOf(int channel) const { return channel / PANEL_COLUMNS * panelStep + channel % PANEL_COLUMNS; }
};

/** The 2x2 tiles of all images, one after another. Those at a lower or right border may extend one pixel beyond it. */
class TileGrid {
 public:
  explicit TileGrid(const ConvolutionShape& shape)
      : height_(shape.height), width_(shape.width), columns_((shape.width + 1) / 2), perImage_((shape.height + 1) / 2 * columns_), count_(shape.count * perImage_) {}

  int count() const { return count_; }

  /** The pixels of the square that begins `margin` before the tile; nullptr outside of the image. */
  template <int SIDE, typename Float>
  void pixelsOf(int tile, int margin, Float* images, int channels, Float* (&pixels)[SIDE * SIDE]) const {
    const int place = tile % perImage_;
    const int top = place / columns_ * 2 - margin;
    const int left = place % columns_ * 2 - margin;
    Float* const image = images + static_cast<std::size_t>(tile / perImage_) * height_ * width_ * channels;
    for (int row = 0; row < SIDE; row += 1) {
      for (int column = 0; column < SIDE; column += 1) {
        const int y = top + row;
        const int x = left + column;
        const bool isInside = y >= 0 && y < height_ && x >= 0 && x < width_;
        pixels[row * SIDE + column] = isInside ? image + (static_cast<std::size_t>(y) * width_ + x) * channels : nullptr;
      }
    }
  }

 private:
  int height_;
  int width_;
  int columns_;
  int perImage_;
  int count_;
};

inline Eight load(const float* pixel, int channel) { return pixel == nullptr ? _mm256_setzero_ps() : _mm256_loadu_ps(pixel + channel); }

/** One row of B^T d B, where `a` to `d` are a row of B^T d. */
inline void storePatchRow(Eight a, Eight b, Eight c, Eight d, float* taps, std::size_t tapStep) {
  _mm256_store_ps(taps, a - c);
  _mm256_store_ps(taps + tapStep, b + c);
  _mm256_store_ps(taps + 2 * tapStep, c - b);
  _mm256_store_ps(taps + 3 * tapStep, b - d);
}

/** B^T d B of a 4x4 patch. `values` is the address of its tile. */
void transformPatch(const float* const (&pixels)[16], int channels, float* values, const Layout& layout) {
  for (int channel = 0; channel < channels; channel += 8) {
    float* const taps = values + layout.offsetOf(channel);
    Eight d[4][4];
    for (int place = 0; place < 16; place += 1) d[place / 4][place % 4] = load(pixels[place], channel);
    const std::size_t step = layout.tapStep;
    storePatchRow(d[0][0] - d[2][0], d[0][1] - d[2][1], d[0][2] - d[2][2], d[0][3] - d[2][3], taps, step);
    storePatchRow(d[1][0] + d[2][0], d[1][1] + d[2][1], d[1][2] + d[2][2], d[1][3] + d[2][3], taps + 4 * step, step);
    storePatchRow(d[2][0] - d[1][0], d[2][1] - d[1][1], d[2][2] - d[1][2], d[2][3] - d[1][3], taps + 8 * step, step);
    storePatchRow(d[1][0] - d[3][0], d[1][1] - d[3][1], d[1][2] - d[3][2], d[1][3] - d[3][3], taps + 12 * step, step);
  }
}

inline void storeGradientRow(Eight left, Eight right, float* taps, std::size_t tapStep) {
  _mm256_store_ps(taps, left);
  _mm256_store_ps(taps + tapStep, left + right);
  _mm256_store_ps(taps + 2 * tapStep, left - right);
  _mm256_store_ps(taps + 3 * tapStep, -right);
}

/** A y A^T of a 2x2 tile. */
void transformGradient(const float* const (&pixels)[4], int channels, float* values, const Layout& layout) {
  for (int channel = 0; channel < channels; channel += 8) {
    float* const taps = values + layout.offsetOf(channel);
    const Eight y[4] = {load(pixels[0], channel), load(pixels[1], channel), load(pixels[2], channel), load(pixels[3], channel)};
    const std::size_t step = layout.tapStep;
    storeGradientRow(y[0], y[1], taps, step);
    storeGradientRow(y[0] + y[2], y[1] + y[3], taps + 4 * step, step);
    storeGradientRow(y[0] - y[2], y[1] - y[3], taps + 8 * step, step);
    storeGradientRow(-y[2], -y[3], taps + 12 * step, step);
  }
}

/** Writes A^T m A, finished by the epilogue if there is one, to those pixels of the 2x2 tile that lie in `output`. */
void transformOutput(const float* values, int channels, const Layout& layout, const Epilogue* epilogue, const float* output, float* const (&pixels)[4]) {
  const auto put = [=](float* pixel, int channel, Eight sums) {
    if (pixel == nullptr) return;
    _mm256_storeu_ps(pixel + channel, epilogue == nullptr ? sums : finish(*epilogue, sums, channel, pixel - output + channel));
  };
  for (int channel = 0; channel < channels; channel += 8) {
    const float* const taps = values + layout.offsetOf(channel);
    Eight upper[4];
    Eight lower[4];
    for (int column = 0; column < 4; column += 1) {
      Eight m[4];
      for (int row = 0; row < 4; row += 1) m[row] = _mm256_load_ps(taps + (row * 4 + column) * layout.tapStep);
      upper[column] = m[0] + m[1] + m[2];
      lower[column] = m[1] - m[2] - m[3];
    }
    put(pixels[0], channel, upper[0] + upper[1] + upper[2]);
    put(pixels[1], channel, upper[1] - upper[2] - upper[3]);
    put(pixels[2], channel, lower[0] + lower[1] + lower[2]);
    put(pixels[3], channel, lower[1] - lower[2] - lower[3]);
  }
}

/** G g G^T of eight filters, whose nine values are `step` floats apart. */
inline void transformFilter(const float* filter, std::size_t step, Eight (&taps)[TAP_COUNT]) {
  const Eight half = _mm256_set1_ps(0.5F);
  Eight rows[4][3];
  for (int column = 0; column < 3; column += 1) {
    const Eight first = _mm256_loadu_ps(filter + column * step);
    const Eight middle = _mm256_loadu_ps(filter + (3 + column) * step) * half;
    const Eight last = _mm256_loadu_ps(filter + (6 + column) * step);
    const Eight outer = (first + last) * half;
    rows[0][column] = first;
    rows[1][column] = outer + middle;
    rows[2][column] = outer - middle;
    rows[3][column] = last;
  }
  for (int row = 0; row < 4; row += 1) {
    const Eight outer = (rows[row][0] + rows[row][2]) * half;
    const Eight middle = rows[row][1] * half;
    taps[row * 4] = rows[row][0];
    taps[row * 4 + 1] = outer + middle;
    taps[row * 4 + 2] = outer - middle;
    taps[row * 4 + 3] = rows[row][2];
  }
}

/** The right factors of a convolution: for each tap and panel of output channels, [inputChannels, 16]. */
void packFilter(const float* filter, int inputChannels, int outputChannels, float* packed) {
  const std::size_t size = static_cast<std::size_t>(inputChannels) * outputChannels;
  parallelFor(inputChannels / 8, [=](int unit) {
    for (int input = unit * 8; input < unit * 8 + 8; input += 1) {
      for (int output = 0; output < outputChannels; output += 8) {
        Eight taps[TAP_COUNT];
        transformFilter(filter + static_cast<std::size_t>(input) * outputChannels + output, size, taps);
        float* const place = packed + (static_cast<std::size_t>(output / PANEL_COLUMNS) * inputChannels + input) * PANEL_COLUMNS + output % PANEL_COLUMNS;
        for (int tap = 0; tap < TAP_COUNT; tap += 1) _mm256_store_ps(place + tap * size, taps[tap]);
      }
    }
  });
}

/**
 * Like `packFilter`, for the filter rotated by 180 degrees, with input and output channels exchanged: for each tap and
 * panel of input channels, [outputChannels, 16].
 */
void packRotatedFilter(const float* filter, int inputChannels, int outputChannels, float* packed) {
  const std::size_t size = static_cast<std::size_t>(inputChannels) * outputChannels;
  // G of a reversed row is G of the row with its first and last element exchanged.
  static constexpr int ROTATED[4] = {3, 1, 2, 0};
  parallelFor(inputChannels / 8, [=](int unit) {
    const int input = unit * 8;
    alignas(32) float kept[TAP_COUNT][8][8];
    for (int output = 0; output < outputChannels; output += 8) {
      for (int row = 0; row < 8; row += 1) {
        Eight taps[TAP_COUNT];
        transformFilter(filter + static_cast<std::size_t>(input + row) * outputChannels + output, size, taps);
        for (int tap = 0; tap < TAP_COUNT; tap += 1) _mm256_store_ps(kept[tap][row], taps[tap]);
      }
      for (int tap = 0; tap < TAP_COUNT; tap += 1) {
        Eight rows[8];
        for (int row = 0; row < 8; row += 1) rows[row] = _mm256_load_ps(kept[tap][row]);
        transpose(rows);
        const int rotated = ROTATED[tap / 4] * 4 + ROTATED[tap % 4];
        float* const place = packed + rotated * size + (static_cast<std::size_t>(input / PANEL_COLUMNS) * outputChannels + output) * PANEL_COLUMNS + input % PANEL_COLUMNS;
        for (int row = 0; row < 8; row += 1) _mm256_store_ps(place + row * PANEL_COLUMNS, rows[row]);
      }
    }
  });
}

/** A convolution with packed filters, tile by tile. */
class TiledConvolution {
 public:
  TiledConvolution(const TileGrid& grid, const float* images, int inputChannels, const float* packed, const Epilogue* epilogue, float* output, int outputChannels)
      : grid_(grid), images_(images), inputChannels_(inputChannels), packed_(packed), epilogue_(epilogue), output_(output), outputChannels_(outputChannels) {}

  void run() const {
    const int floatsPerTile = TAP_COUNT * (inputChannels_ + outputChannels_);
    const int rowsMax = kernel_.rowsMax;
    const int tilesInL2 = l2Floats() / floatsPerTile / rowsMax * rowsMax;
    // With many channels so few tiles fit that reading all filters for them costs more than going through the
    // third-level cache.
    if (tilesInL2 >= 2 * rowsMax) runInL2(tilesInL2);
    else runInL3(std::max(8 * rowsMax, L3_FLOATS / floatsPerTile / rowsMax * rowsMax));
  }

 private:
  /** Each thread takes a few tiles through all steps, so that intermediate values stay in its own cache. */
  void runInL2(int tilesAtOnce) const {
    parallelFor((grid_.count() + tilesAtOnce - 1) / tilesAtOnce, [this, tilesAtOnce](int unit) {
      static thread_local Workspace patchSpace;
      static thread_local Workspace productSpace;
      const int first = unit * tilesAtOnce;
      const int count = std::min(tilesAtOnce, grid_.count() - first);
      const Layout patchLayout = Layout::byTile(tilesAtOnce, inputChannels_);
      const Layout productLayout = Layout::byPanel(tilesAtOnce, outputChannels_);
      float* const patches = patchSpace.take(patchLayout.size());
      float* const products = productSpace.take(productLayout.size());
      readPatches(first, 0, count, patches, patchLayout);
      for (int tap = 0; tap < TAP_COUNT; tap += 1) multiplyTap(tap, 0, outputChannels_ / PANEL_COLUMNS, count, patches, patchLayout, products, productLayout);
      writeTiles(first, 0, count, products, productLayout);
    });
  }

  /** All threads take many tiles through one step after another, so that each filter is read once for all tiles. */
  void runInL3(int tilesAtOnce) const {
    static Workspace patchSpace;
    static Workspace productSpace;
    const int capacity = std::min(tilesAtOnce, grid_.count());
    const Layout patchLayout = Layout::byTile(capacity, inputChannels_);
    const Layout productLayout = Layout::byPanel(capacity, outputChannels_);
    float* const patches = patchSpace.take(patchLayout.size());
    float* const products = productSpace.take(productLayout.size());
    const int panelCount = outputChannels_ / PANEL_COLUMNS;
    const int groupCount = (panelCount + kernel_.panelsMax - 1) / kernel_.panelsMax;
    for (int first = 0; first < grid_.count(); first += capacity) {
      const int count = std::min(capacity, grid_.count() - first);
      const int unitCount = (count + TILES_PER_UNIT - 1) / TILES_PER_UNIT;
      parallelFor(unitCount, [=](int unit) { readPatches(first, unit * TILES_PER_UNIT, std::min(count, (unit + 1) * TILES_PER_UNIT), patches, patchLayout); });
      parallelFor(TAP_COUNT * groupCount, [=](int unit) {
        const int panel = unit % groupCount * kernel_.panelsMax;
        multiplyTap(unit / groupCount, panel, std::min(kernel_.panelsMax, panelCount - panel), count, patches, patchLayout, products, productLayout);
      });
      parallelFor(unitCount, [=](int unit) { writeTiles(first, unit * TILES_PER_UNIT, std::min(count, (unit + 1) * TILES_PER_UNIT), products, productLayout); });
    }
  }

  void readPatches(int first, int from, int to, float* patches, const Layout& layout) const {
    for (int tile = from; tile < to; tile += 1) {
      const float* pixels[16];
      grid_.pixelsOf<4>(first + tile, 1, images_, inputChannels_, pixels);
      transformPatch(pixels, inputChannels_, patches + tile * layout.tileStep, layout);
    }
  }

  void multiplyTap(int tap, int firstPanel, int panels, int tileCount, const float* patches, const Layout& patchLayout, float* products, const Layout& productLayout) const {
    const float* const right = packed_ + (static_cast<std::size_t>(tap) * outputChannels_ + firstPanel * PANEL_COLUMNS) * inputChannels_;
    float* const product = products + tap * productLayout.tapStep + firstPanel * productLayout.panelStep;
    multiplyPacked(kernel_, tileCount, panels,
                   {inputChannels_, patches + tap * patchLayout.tapStep, patchLayout.tileStep, 1, right, static_cast<std::size_t>(inputChannels_) * PANEL_COLUMNS, product, productLayout.tileStep, productLayout.panelStep, false});
  }

  void writeTiles(int first, int from, int to, const float* products, const Layout& layout) const {
    for (int tile = from; tile < to; tile += 1) {
      float* pixels[4];
      grid_.pixelsOf<2>(first + tile, 0, output_, outputChannels_, pixels);
      transformOutput(products + tile * layout.tileStep, outputChannels_, layout, epilogue_, output_, pixels);
    }
  }

  /** Processors with AVX-512 have a second-level cache of at least 1 MB. */
  int l2Floats() const { return &kernel_ == &AVX512_PRODUCT ? 2 * L2_FLOATS : L2_FLOATS; }

  const ProductKernel& kernel_ = *productKernel(Factors::FLOAT32);
  const TileGrid grid_;
  const float* const images_;
  const int inputChannels_;
  const float* const packed_;
  const Epilogue* const epilogue_;
  float* const output_;
  const int outputChannels_;
};

Workspace packedSpace;

/** Writes G^T s G to the filter's gradient, from sums in the layout of packed filters. */
void transformSums(const float* sums, int inputChannels, int outputChannels, float* gradient) {
  const std::size_t size = static_cast<std::size_t>(inputChannels) * outputChannels;
  parallelFor(inputChannels / 8, [=](int unit) {
    const Eight half = _mm256_set1_ps(0.5F);
    for (int input = unit * 8; input < unit * 8 + 8; input += 1) {
      for (int output = 0; output < outputChannels; output += 8) {
        const float* const taps = sums + (static_cast<std::size_t>(output / PANEL_COLUMNS) * inputChannels + input) * PANEL_COLUMNS + output % PANEL_COLUMNS;
        Eight rows[3][4];
        for (int column = 0; column < 4; column += 1) {
          Eight s[4];
          for (int row = 0; row < 4; row += 1) s[row] = _mm256_load_ps(taps + (row * 4 + column) * size);
          const Eight middle = (s[1] + s[2]) * half;
          rows[0][column] = s[0] + middle;
          rows[1][column] = (s[1] - s[2]) * half;
          rows[2][column] = middle + s[3];
        }
        for (int row = 0; row < 3; row += 1) {
          const Eight middle = (rows[row][1] + rows[row][2]) * half;
          float* const place = gradient + row * 3 * size + static_cast<std::size_t>(input) * outputChannels + output;
          _mm256_storeu_ps(place, rows[row][0] + middle);
          _mm256_storeu_ps(place + size, (rows[row][1] - rows[row][2]) * half);
          _mm256_storeu_ps(place + 2 * size, middle + rows[row][3]);
        }
      }
    }
  });
}

}  // namespace

void convolveByTiles(const ConvolutionShape& shape, const float* images, const float* filter, const Epilogue* epilogue, float* output) {
  float* const packed = packedSpace.take(static_cast<std::size_t>(TAP_COUNT) * shape.inputChannels * shape.outputChannels);
  packFilter(filter, shape.inputChannels, shape.outputChannels, packed);
  TiledConvolution(TileGrid(shape), images, shape.inputChannels, packed, epilogue, output, shape.outputChannels).run();
}

void inputGradientByTiles(const ConvolutionShape& shape, const float* filter, const float* outputGradient, float* gradient) {
  float* const packed = packedSpace.take(static_cast<std::size_t>(TAP_COUNT) * shape.inputChannels * shape.outputChannels);
  packRotatedFilter(filter, shape.inputChannels, shape.outputChannels, packed);
  TiledConvolution(TileGrid(shape), outputGradient, shape.outputChannels, packed, nullptr, gradient, shape.inputChannels).run();
}

void filterGradientByTiles(const ConvolutionShape& shape, const float* images, const float* outputGradient, float* gradient) {
  static Workspace patchSpace;
  static Workspace gradientSpace;
  const TileGrid grid(shape);
  const int inputChannels = shape.inputChannels;
  const int outputChannels = shape.outputChannels;
  if (grid.count() == 0) {
    std::fill_n(gradient, std::size_t{9} * inputChannels * outputChannels, 0.0F);
    return;
  }
  const int capacity = std::min(grid.count(), std::max(64, L3_FLOATS / 2 / (TAP_COUNT * (inputChannels + outputChannels)) / TILES_PER_UNIT * TILES_PER_UNIT));
  const Layout patchLayout = Layout::byPanel(capacity, inputChannels);
  const Layout gradientLayout = Layout::byPanel(capacity, outputChannels);
  float* const patches = patchSpace.take(patchLayout.size());
  float* const gradients = gradientSpace.take(gradientLayout.size());
  float* const sums = packedSpace.take(static_cast<std::size_t>(TAP_COUNT) * inputChannels * outputChannels);
  const int panelCount = inputChannels / PANEL_COLUMNS;
  const ProductKernel& kernel = *productKernel(Factors::FLOAT32);
  for (int first = 0; first < grid.count(); first += capacity) {
    const int count = std::min(capacity, grid.count() - first);
    parallelFor((count + TILES_PER_UNIT - 1) / TILES_PER_UNIT, [=](int unit) {
      for (int tile = unit * TILES_PER_UNIT; tile < std::min(count, (unit + 1) * TILES_PER_UNIT); tile += 1) {
        const float* patch[16];
        grid.pixelsOf<4>(first + tile, 1, images, inputChannels, patch);
        transformPatch(patch, inputChannels, patches + tile * patchLayout.tileStep, patchLayout);
        const float* square[4];
        grid.pixelsOf<2>(first + tile, 0, outputGradient, outputChannels, square);
        transformGradient(square, outputChannels, gradients + tile * gradientLayout.tileStep, gradientLayout);
      }
    });
    // Each sum is computed by one thread in the order of the tiles, so that the digits are the same for any number of
    // threads.
    parallelFor(TAP_COUNT * panelCount, [=](int unit) {
      const int tap = unit / panelCount;
      const int panel = unit % panelCount;
      float* const sum = sums + static_cast<std::size_t>(tap) * inputChannels * outputChannels + panel * PANEL_COLUMNS * PANEL_COLUMNS;
      multiplyPacked(kernel, PANEL_COLUMNS, outputChannels / PANEL_COLUMNS,
                     {count, patches + tap * patchLayout.tapStep + panel * patchLayout.panelStep, 1, PANEL_COLUMNS, gradients + tap * gradientLayout.tapStep, gradientLayout.panelStep, sum, PANEL_COLUMNS,
                      static_cast<std::size_t>(inputChannels) * PANEL_COLUMNS, first > 0});
    });
  }
  transformSums(sums, inputChannels, outputChannels, gradient);
}

}  // namespace paraffin
