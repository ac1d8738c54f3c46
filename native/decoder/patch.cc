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

/** Adds a weighted row to the sums. */
VECTORISED void addRow(const uint8_t* __restrict row, int weight, int sampleCount, int32_t* __restrict sums) {
  for (int sample = 0; sample < sampleCount; sample += 1) sums[sample] += weight * row[sample];
}

VECTORISED void roundSums(const int32_t* __restrict sums, int sampleCount, uint16_t* __restrict rounded) {
  for (int sample = 0; sample < sampleCount; sample += 1)
    rounded[sample] = static_cast<uint16_t>(sums[sample] >> kColumnShift);
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
inline bool isPen(int red, int green, int blue) {
  const int brightest = std::max(std::max(red, green), blue);
  const int spread = brightest - std::min(std::min(red, green), blue);
  if (brightest <= 60) return spread <= 18;
  if (green - red >= 25 && spread >= 60) return true;
  return red - std::max(green, blue) >= 110 && std::abs(green - blue) <= 40;
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
  std::vector<int32_t> sums(sampleCount);
  std::vector<uint16_t> samples(sampleCount + 1);
  for (int row = 0; row < rows.count; row += 1) {
    sums.assign(sampleCount, 1 << (kColumnShift - 1));
    for (int tap = 0; tap < rows.tapCount; tap += 1) {
      const int weight = rows.weights[size_t{1} * row * rows.tapCount + tap];
      if (weight != 0) addRow(source + size_t{1} * (rows.first[row] + tap) * sampleCount, weight, sampleCount, sums.data());
    }
    roundSums(sums.data(), sampleCount, samples.data());
    mixRow(samples.data(), columns, target + size_t{3} * columns.count * row);
  }
}

Measures measure(const uint8_t* rgb, int width, int height) {
  std::vector<int32_t> luma(size_t{1} * width * height);
  Measures measures;
  for (int32_t& value : luma) {
    value = 77 * rgb[0] + 150 * rgb[1] + 29 * rgb[2];
    measures.penCount += isPen(rgb[0], rgb[1], rgb[2]);
    rgb += 3;
  }
  for (int y = 1; y < height - 1; y += 1) addLaplacian(luma.data() + size_t{1} * y * width, width, measures);
  return measures;
}

}  // namespace paraffin
