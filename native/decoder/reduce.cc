#include "reduce.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "vectorised.h"

namespace paraffin {
namespace {

/** Positions of the filter between two pixels. */
constexpr int kPositions = 64;
constexpr int kWeightBits = 12;
constexpr int kHalf = 1 << (kWeightBits - 1);
/** For a factor below 4. */
constexpr int kTapsMax = 9;

/** The pixels that make one target pixel: the first of them, which may lie before the image, and their weights. */
struct Filter {
  int first;
  // None is negative and their sum is at most 2^12, so that no value leaves 0..255.
  int weights[kTapsMax];
};

int tapCountOf(double factor) { return 2 * static_cast<int>(std::rint(factor)) + 1; }

std::vector<Filter> filtersOf(int targetPx, double factor) {
  const int count = tapCountOf(factor);
  std::vector<Filter> filters(targetPx);
  for (int target = 0; target < targetPx; target += 1) {
    const double place = (target + 0.5) * factor;
    const int halves = static_cast<int>(place * kPositions * 2) & (kPositions * 2 - 1);
    const double position = static_cast<double>((halves + 1) >> 1) / kPositions;
    double exact[kTapsMax];
    double sum = 0;
    for (int tap = 0; tap < count; tap += 1) {
      exact[tap] = std::max(0.0, 1 - std::abs((tap - (position + count / 2.0 - 1)) / factor));
      sum += exact[tap];
    }
    filters[target].first = static_cast<int>(place) - (count - 1) / 2;
    for (int tap = 0; tap < count; tap += 1)
      filters[target].weights[tap] = static_cast<int>(exact[tap] / sum * (1 << kWeightBits));
  }
  return filters;
}

/** The number of taps is a constant, so that the compiler keeps weights and sums in registers. */
template <int kTaps>
inline __attribute__((always_inline)) void mixRows(const uint8_t* const* rows, const int* weights, int byteCount,
                                                   uint8_t* __restrict target) {
  for (int place = 0; place < byteCount; place += 1) {
    int sum = kHalf;
    for (int tap = 0; tap < kTaps; tap += 1) sum += weights[tap] * rows[tap][place];
    target[place] = static_cast<uint8_t>(sum >> kWeightBits);
  }
}

VECTORISED void mixRows(const uint8_t* const* rows, const int* weights, int count, int byteCount, uint8_t* target) {
  switch (count) {
    case 3: return mixRows<3>(rows, weights, byteCount, target);
    case 5: return mixRows<5>(rows, weights, byteCount, target);
    case 7: return mixRows<7>(rows, weights, byteCount, target);
    default: return mixRows<9>(rows, weights, byteCount, target);
  }
}

void reduceVertically(Pixels& pixels, double factor, std::vector<uint8_t>& reduced) {
  const int targetPx = static_cast<int>(pixels.height / factor + 0.5);
  const int count = tapCountOf(factor);
  const size_t rowBytes = size_t{3} * pixels.width;
  reduced.resize(rowBytes * targetPx);
  uint8_t* target = reduced.data();
  for (const Filter& filter : filtersOf(targetPx, factor)) {
    const uint8_t* rows[kTapsMax];
    for (int tap = 0; tap < count; tap += 1)
      rows[tap] = pixels.data.data() + rowBytes * std::clamp(filter.first + tap, 0, pixels.height - 1);
    mixRows(rows, filter.weights, count, static_cast<int>(rowBytes), target);
    target += rowBytes;
  }
  pixels.data.swap(reduced);
  pixels.height = targetPx;
}

using Lanes = int __attribute__((vector_size(16)));
using Bytes = uint8_t __attribute__((vector_size(4)));

/** A pixel and the byte after it, which counts for nothing. */
inline __attribute__((always_inline)) Lanes lanesAt(const uint8_t* pixel) {
  Bytes bytes;
  memcpy(&bytes, pixel, sizeof bytes);
  return __builtin_convertvector(bytes, Lanes);
}

template <int kTaps>
inline __attribute__((always_inline)) void mixColumns(const uint8_t* padded, const Filter* filters, int targetPx,
                                                      int before, uint8_t* target) {
  for (int column = 0; column < targetPx; column += 1) {
    const Filter& filter = filters[column];
    const uint8_t* first = padded + 3 * (filter.first + before);
    Lanes sum = {kHalf, kHalf, kHalf, kHalf};
    for (int tap = 0; tap < kTaps; tap += 1) sum += lanesAt(first + 3 * tap) * filter.weights[tap];
    const Bytes bytes = __builtin_convertvector(sum >> kWeightBits, Bytes);
    // Four bytes, of which the next pixel overwrites the last.
    memcpy(target + 3 * column, &bytes, sizeof bytes);
  }
}

VECTORISED void mixColumns(const uint8_t* padded, const Filter* filters, int targetPx, int before, int count,
                           uint8_t* target) {
  switch (count) {
    case 3: return mixColumns<3>(padded, filters, targetPx, before, target);
    case 5: return mixColumns<5>(padded, filters, targetPx, before, target);
    case 7: return mixColumns<7>(padded, filters, targetPx, before, target);
    default: return mixColumns<9>(padded, filters, targetPx, before, target);
  }
}

void reduceHorizontally(Pixels& pixels, double factor, std::vector<uint8_t>& reduced) {
  const int targetPx = static_cast<int>(pixels.width / factor + 0.5);
  const int count = tapCountOf(factor);
  const size_t rowBytes = size_t{3} * pixels.width;
  const std::vector<Filter> filters = filtersOf(targetPx, factor);
  // A row between copies of its border pixels.
  std::vector<uint8_t> padded(rowBytes + size_t{6} * kTapsMax + sizeof(Bytes));
  uint8_t* const middle = padded.data() + 3 * kTapsMax;
  reduced.resize(size_t{3} * targetPx * pixels.height + sizeof(Bytes));
  for (int row = 0; row < pixels.height; row += 1) {
    memcpy(middle, pixels.data.data() + rowBytes * row, rowBytes);
    for (int tap = 1; tap <= kTapsMax; tap += 1) {
      memcpy(middle - 3 * tap, middle, 3);
      memcpy(middle + rowBytes + 3 * (tap - 1), middle + rowBytes - 3, 3);
    }
    mixColumns(padded.data(), filters.data(), targetPx, kTapsMax, count, reduced.data() + size_t{3} * targetPx * row);
  }
  pixels.data.swap(reduced);
  pixels.width = targetPx;
}

}  // namespace

bool canReduce(int sourcePx, int targetPx, double factor) {
  // From 4 on libvips averages whole blocks of pixels first, and it enlarges by another filter. Where the target is not
  // a whole number of pixels, it moves the filter.
  if (!(factor >= 1 && factor < 4) || targetPx * factor != sourcePx) return false;
  // A place that is an odd number of 1/128 pixels is rounded by the last bit of a floating-point sum, unless that sum
  // is exact.
  const int denominator = 2 * targetPx / std::gcd(sourcePx, 2 * targetPx);
  return denominator == 128 || denominator % 128 != 0 || (denominator / 128) % 2 == 0;
}

void reduce(Pixels& pixels, double horizontal, double vertical) {
  thread_local std::vector<uint8_t> reduced;
  if (vertical > 1) reduceVertically(pixels, vertical, reduced);
  if (horizontal > 1) reduceHorizontally(pixels, horizontal, reduced);
  keepIfSmall(reduced);
}

}  // namespace paraffin
