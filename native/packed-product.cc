#include "packed-product.h"

#include <immintrin.h>

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "eight.h"

#pragma GCC target("avx2,fma,f16c")

namespace paraffin {
namespace {

/** The upper halves of float32 numbers, rounded to the nearest with ties to even, in the lower halves of lanes. */
__m256i roundedHalves(__m256 values) {
  const __m256i bits = _mm256_castps_si256(values);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i rounded = _mm256_srli_epi32(_mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7FFF)), odd), 16);
  // Rounding could carry the bits of a NaN into its exponent and sign.
  const __m256i isNan = _mm256_castps_si256(_mm256_cmp_ps(values, values, _CMP_UNORD_Q));
  return _mm256_blendv_epi8(rounded, _mm256_set1_epi32(0x7FC0), isNan);
}

/** Eight lanes of sixteen consecutive numbers. */
__m256 pairedAlong(__m256 first, __m256 second) {
  const __m256i mixed = _mm256_packus_epi32(roundedHalves(first), roundedHalves(second));
  return _mm256_castsi256_ps(_mm256_permute4x64_epi64(mixed, 0xD8));
}

/** Eight lanes of the numbers in two rows. */
__m256 pairedAcross(__m256 lower, __m256 upper) {
  return _mm256_castsi256_ps(_mm256_or_si256(roundedHalves(lower), _mm256_slli_epi32(roundedHalves(upper), 16)));
}

/** Up to eight consecutive numbers in the dtype of a factor, as float32, and zeros; nothing beyond them is read. */
struct Float32 {
  using Number = float;
  static Eight load(const Number* from, int count) { return loadPart(from, count); }
};

__m128i loadHalves(const std::uint16_t* from, int count) {
  if (count >= 8) return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
  alignas(16) std::uint16_t part[8] = {};
  std::memcpy(part, from, std::max(0, count) * sizeof(part[0]));
  return _mm_load_si128(reinterpret_cast<const __m128i*>(part));
}

/** The upper half of a float32. */
struct Bfloat16 {
  using Number = std::uint16_t;
  static Eight load(const Number* from, int count) { return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(loadHalves(from, count)), 16)); }
};

struct Float16 {
  using Number = std::uint16_t;
  static Eight load(const Number* from, int count) { return _mm256_cvtph_ps(loadHalves(from, count)); }
};

/** Eight lanes from `lane` on, of a row with `depth` numbers. */
template <typename Source>
__m256 lanesAlong(Factors factors, const typename Source::Number* row, int depth, int lane) {
  if (factors == Factors::FLOAT32) return Source::load(row + lane, depth - lane);
  const int place = 2 * lane;
  return pairedAlong(Source::load(row + place, depth - place), depth - place > 8 ? Source::load(row + place + 8, depth - place - 8) : _mm256_setzero_ps());
}

/** The lane `lane` of up to eight columns, in a factor with one row for each number of the sum. */
template <typename Source>
__m256 lanesAcross(Factors factors, const typename Source::Number* columns, std::size_t step, int depth, int lane, int count) {
  if (factors == Factors::FLOAT32) return Source::load(columns + lane * step, count);
  const typename Source::Number* const lower = columns + 2 * static_cast<std::size_t>(lane) * step;
  return pairedAcross(Source::load(lower, count), 2 * lane + 1 < depth ? Source::load(lower + step, count) : _mm256_setzero_ps());
}

template <typename Source>
void packPanelOf(Factors factors, const Factor& right, int depth, int columns, int panel, float* packed) {
  const auto* const values = static_cast<const typename Source::Number*>(right.values);
  const int first = panel * PANEL_COLUMNS;
  const int lanes = laneCount(factors, depth);
  for (int half = 0; half < PANEL_COLUMNS; half += 8) {
    const int count = std::max(0, std::min(8, columns - first - half));
    if (!right.isTransposed) {
      for (int lane = 0; lane < lanes; lane += 1)
        _mm256_store_ps(packed + static_cast<std::size_t>(lane) * PANEL_COLUMNS + half,
                        count == 0 ? _mm256_setzero_ps() : lanesAcross<Source>(factors, values + first + half, right.step, depth, lane, count));
      continue;
    }
    for (int lane = 0; lane < lanes; lane += 8) {
      Eight rows[8];
      for (int column = 0; column < 8; column += 1)
        rows[column] = column < count ? lanesAlong<Source>(factors, values + (first + half + column) * right.step, depth, lane) : _mm256_setzero_ps();
      transpose(rows);
      for (int row = 0; row < std::min(8, lanes - lane); row += 1) _mm256_store_ps(packed + static_cast<std::size_t>(lane + row) * PANEL_COLUMNS + half, rows[row]);
    }
  }
}

}  // namespace

void packLeftAcross(Factors factors, const Factor& left, int firstRow, int rows, int depth, int firstLane, int lanes, float* packed, std::size_t laneStep) {
  for (int lane = 0; lane < lanes; lane += 1) {
    for (int row = 0; row < rows; row += 8)
      storePart(packed + lane * laneStep + row, rows - row, lanesAcross<Float32>(factors, left.floats() + firstRow + row, left.step, depth, firstLane + lane, rows - row));
  }
}

void packLeftAlong(Factors factors, const Factor& left, int firstRow, int rows, int depth, int firstLane, int lanes, float* packed, std::size_t rowStep) {
  for (int row = 0; row < rows; row += 1) {
    const float* const values = left.floats() + (firstRow + row) * left.step;
    for (int lane = 0; lane < lanes; lane += 8)
      _mm256_store_ps(packed + row * rowStep + lane, lanesAlong<Float32>(factors, values, depth, firstLane + lane));
  }
}

void packPanel(Factors factors, const Factor& right, int depth, int columns, int panel, float* packed) {
  switch (right.stored) {
    case Stored::FLOAT32: return packPanelOf<Float32>(factors, right, depth, columns, panel, packed);
    case Stored::BFLOAT16: return packPanelOf<Bfloat16>(factors, right, depth, columns, panel, packed);
    case Stored::FLOAT16: return packPanelOf<Float16>(factors, right, depth, columns, panel, packed);
  }
}

void multiplyPacked(const ProductKernel& kernel, int rows, int panels, const Tile& whole) {
  for (int panel = 0; panel < panels; panel += kernel.panelsMax) {
    Tile tile = whole;
    tile.right += panel * whole.rightPanelStep;
    for (int row = 0; row < rows; row += kernel.rowsMax) {
      tile.left = whole.left + row * whole.leftRowStep;
      tile.product = whole.product + row * whole.productRowStep + panel * whole.productPanelStep;
      kernel.multiply(std::min(kernel.rowsMax, rows - row), std::min(kernel.panelsMax, panels - panel), tile);
    }
  }
}

}  // namespace paraffin
