#include "patch.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "vectorised.h"

namespace paraffin {
namespace {

constexpr int kWeightBits = 15;
constexpr int kFractionBits = 7;
constexpr int kColumnShift = kWeightBits - kFractionBits;
constexpr int kRowShift = kWeightBits + kFractionBits;

/**
 * The weighted sums of rows, rounded.
 * @param kTaps a constant, so that sums stay in registers; 0: `tapCount`. @param rowBytes from one row to the next.
 */
template <int kTaps>
inline __attribute__((always_inline)) void mixRows(const uint8_t* __restrict rows, size_t rowBytes,
                                                   const int32_t* __restrict weights, int tapCount, int sampleCount,
                                                   uint16_t* __restrict rounded) {
  const int taps = kTaps == 0 ? tapCount : kTaps;
  for (int sample = 0; sample < sampleCount; sample += 1) {
    int32_t sum = 1 << (kColumnShift - 1);
    for (int tap = 0; tap < taps; tap += 1) sum += weights[tap] * rows[rowBytes * tap + sample];
    rounded[sample] = static_cast<uint16_t>(sum >> kColumnShift);
  }
}

VECTORISED void mixRows(const uint8_t* rows, size_t rowBytes, const int32_t* weights, int tapCount, int sampleCount,
                        uint16_t* rounded) {
  switch (tapCount) {
    case 1: return mixRows<1>(rows, rowBytes, weights, tapCount, sampleCount, rounded);
    case 2: return mixRows<2>(rows, rowBytes, weights, tapCount, sampleCount, rounded);
    case 3: return mixRows<3>(rows, rowBytes, weights, tapCount, sampleCount, rounded);
    case 4: return mixRows<4>(rows, rowBytes, weights, tapCount, sampleCount, rounded);
    default: return mixRows<0>(rows, rowBytes, weights, tapCount, sampleCount, rounded);
  }
}

using Lanes = int32_t __attribute__((vector_size(16)));
using Samples = uint16_t __attribute__((vector_size(8)));
using Bytes = uint8_t __attribute__((vector_size(4)));

/** @param kTaps a constant, so that the compiler unrolls the usual ratios; 0: `columns.tapCount`. */
template <int kTaps>
inline __attribute__((always_inline)) void mixRow(const uint16_t* samples, const Weights& columns, uint8_t* target) {
  const int tapCount = kTaps == 0 ? columns.tapCount : kTaps;
  const int32_t* weights = columns.weights;
  for (int column = 0; column < columns.count; column += 1, weights += tapCount) {
    const uint16_t* from = samples + 3 * columns.first[column];
    constexpr int32_t kHalf = 1 << (kRowShift - 1);
    Lanes sum = {kHalf, kHalf, kHalf, kHalf};
    for (int tap = 0; tap < tapCount; tap += 1) {
      // A pixel and the sample after it, which counts for nothing.
      Samples pixel;
      memcpy(&pixel, from + 3 * tap, sizeof pixel);
      sum += __builtin_convertvector(pixel, Lanes) * weights[tap];
    }
    const Bytes bytes = __builtin_convertvector(sum >> kRowShift, Bytes);
    memcpy(target + 3 * column, &bytes, 3);
  }
}

VECTORISED void mixRow(const uint16_t* samples, const Weights& columns, uint8_t* target) {
  switch (columns.tapCount) {
    case 2: return mixRow<2>(samples, columns, target);
    case 3: return mixRow<3>(samples, columns, target);
    case 4: return mixRow<4>(samples, columns, target);
    default: return mixRow<0>(samples, columns, target);
  }
}

/** See isPen of workers/imaging/slides/pen.ts. */
inline __attribute__((always_inline)) int isPen(int red, int green, int blue) {
  const int brightest = std::max(std::max(red, green), blue);
  const int spread = brightest - std::min(std::min(red, green), blue);
  // Without branches, which tissue takes at random.
  const int isBlack = (brightest <= 60) & (spread <= 18);
  const int isGreenOrBlue = (brightest > 60) & (green - red >= 25) & (spread >= 60);
  const int isRed = (brightest > 60) & (red - std::max(green, blue) >= 110) & (std::abs(green - blue) <= 40);
  return isBlack | isGreenOrBlue | isRed;
}

/** Luma of each pixel, and how many look like ink. */
VECTORISED int64_t lumaOf(const uint8_t* __restrict rgb, int pixelCount, int32_t* __restrict luma) {
  int penCount = 0;
  for (int pixel = 0; pixel < pixelCount; pixel += 1) {
    const int red = rgb[3 * pixel], green = rgb[3 * pixel + 1], blue = rgb[3 * pixel + 2];
    luma[pixel] = 77 * red + 150 * green + 29 * blue;
    penCount += isPen(red, green, blue);
  }
  return penCount;
}

/** Of one row that has neighbours on every side. */
VECTORISED void addLaplacian(const int32_t* row, int width, Measures& measures) {
  int64_t sum = 0, squares = 0;
  for (int x = 1; x < width - 1; x += 1) {
    const int64_t value = row[x - 1] + row[x + 1] + row[x - width] + row[x + width] - 4 * row[x];
    sum += value;
    squares += value * value;
  }
  measures.laplacianSum += sum;
  measures.laplacianSquares += squares;
}

/** Paeth's filter of a row, whose first pixel has left neighbours of zero. */
VECTORISED void filterRow(const uint8_t* __restrict row, const uint8_t* __restrict above, int byteCount,
                          uint8_t* __restrict filtered) {
  for (int at = 0; at < 3; at += 1) filtered[at] = static_cast<uint8_t>(row[at] - above[at]);
  for (int at = 3; at < byteCount; at += 1) {
    const int16_t left = row[at - 3], up = above[at], corner = above[at - 3];
    const int16_t toLeft = std::abs(up - corner), toUp = std::abs(left - corner);
    const int16_t toCorner = std::abs(left + up - 2 * corner);
    const int16_t second = toUp <= toCorner ? up : corner;
    const int16_t nearest = (toLeft <= toUp) & (toLeft <= toCorner) ? left : second;
    filtered[at] = static_cast<uint8_t>(row[at] - nearest);
  }
}

}  // namespace

void filterRows(const uint8_t* rgb, int width, int firstRow, int rowCount, uint8_t* filtered) {
  constexpr uint8_t kPaeth = 4;
  const int byteCount = 3 * width;
  const std::vector<uint8_t> nothing(byteCount);
  for (int row = firstRow; row < firstRow + rowCount; row += 1, filtered += byteCount + 1) {
    const uint8_t* first = rgb + size_t{1} * byteCount * row;
    filtered[0] = kPaeth;
    filterRow(first, row == 0 ? nothing.data() : first - byteCount, byteCount, filtered + 1);
  }
}

void layOnBackground(const uint8_t* bgra, size_t pixelCount, const uint8_t (&background)[3], uint8_t* rgb) {
  for (size_t pixel = 0; pixel < pixelCount; pixel += 1, bgra += 4, rgb += 3) {
    const int rest = 255 - bgra[3];
    for (int channel = 0; channel < 3; channel += 1)
      rgb[channel] = static_cast<uint8_t>(
          rest == 0 ? bgra[2 - channel] : bgra[2 - channel] + (background[channel] * rest + 127) / 255);
  }
}

void mix(const uint8_t* source, int sourceWidth, const Weights& columns, const Weights& rows, uint8_t* target) {
  const int sampleCount = 3 * sourceWidth;
  std::vector<uint16_t> samples(sampleCount + 1);
  const int32_t* weights = rows.weights;
  for (int row = 0; row < rows.count; row += 1, weights += rows.tapCount) {
    // A last row without weight need not be read.
    const int tapCount = rows.tapCount > 1 && weights[rows.tapCount - 1] == 0 ? rows.tapCount - 1 : rows.tapCount;
    const uint8_t* const first = source + size_t{1} * rows.first[row] * sampleCount;
    mixRows(first, sampleCount, weights, tapCount, sampleCount, samples.data());
    mixRow(samples.data(), columns, target + size_t{3} * columns.count * row);
  }
}

Measures measure(const uint8_t* rgb, int width, int height) {
  std::vector<int32_t> luma(size_t{1} * width * height);
  Measures measures;
  for (int y = 0; y < height; y += 1)
    measures.penCount += lumaOf(rgb + size_t{3} * width * y, width, luma.data() + size_t{1} * width * y);
  for (int y = 1; y < height - 1; y += 1) addLaplacian(luma.data() + size_t{1} * y * width, width, measures);
  return measures;
}

}  // namespace paraffin
