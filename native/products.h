/**
 * Building blocks of our convolutions: small matrix products that stay in registers, and memory to rearrange their
 * factors. For AVX2 and FMA.
 */
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdlib>
#include <new>

#pragma GCC push_options
#pragma GCC target("avx2,fma")

namespace paraffin {
namespace {

using Eight = __m256;

/** Columns of one matrix product in registers: two vectors of eight. */
constexpr int PANEL_WIDTH = 16;
/**
 * Rows of one matrix product in registers: six times two sums, two factors and a broadcast fill the 16 vector
 * registers.
 */
constexpr int ROWS_AT_ONCE = 6;
/** Floats that fill most of a core's second-level cache of 512 KB, and a few MB of the third-level cache. */
constexpr int L2_FLOATS = 98304;
constexpr int L3_FLOATS = 2097152;

/** Memory for intermediate values, kept for the next call: new pages are slow. */
class Workspace {
 public:
  float* take(std::size_t floatCount) {
    if (floatCount > floatCount_) {
      std::free(floats_);
      const std::size_t byteSize = (floatCount * sizeof(float) + 63) / 64 * 64;
      floats_ = static_cast<float*>(std::aligned_alloc(64, byteSize));
      floatCount_ = floats_ == nullptr ? 0 : floatCount;
      if (floats_ == nullptr) throw std::bad_alloc();
    }
    return floats_;
  }

  ~Workspace() { std::free(floats_); }

 private:
  float* floats_ = nullptr;
  std::size_t floatCount_ = 0;
};

inline void transpose(Eight (&rows)[8]) {
  Eight pairs[8];
  for (int row = 0; row < 8; row += 2) {
    pairs[row] = _mm256_unpacklo_ps(rows[row], rows[row + 1]);
    pairs[row + 1] = _mm256_unpackhi_ps(rows[row], rows[row + 1]);
  }
  Eight fours[8];
  for (int half = 0; half < 8; half += 4) {
    fours[half] = _mm256_shuffle_ps(pairs[half], pairs[half + 2], 0x44);
    fours[half + 1] = _mm256_shuffle_ps(pairs[half], pairs[half + 2], 0xEE);
    fours[half + 2] = _mm256_shuffle_ps(pairs[half + 1], pairs[half + 3], 0x44);
    fours[half + 3] = _mm256_shuffle_ps(pairs[half + 1], pairs[half + 3], 0xEE);
  }
  for (int row = 0; row < 4; row += 1) {
    rows[row] = _mm256_permute2f128_ps(fours[row], fours[row + 4], 0x20);
    rows[row + 4] = _mm256_permute2f128_ps(fours[row], fours[row + 4], 0x31);
  }
}

/**
 * product [ROWS, 16] = left [ROWS, depth] times right [depth, 16], added to the previous product if requested; rows of
 * the product are `productStep` floats apart. Row steps of the left factor are known at compile time (ROW_STEP 0: at
 * run time), so that every sum stays in a register.
 */
template <int ROWS, bool ADDS, int ROW_STEP, int DEPTH_STEP>
inline void multiplyRows(int depth, const float* left, std::size_t givenRowStep, const float* right, float* product, std::size_t productStep) {
  const std::size_t rowStep = ROW_STEP == 0 ? givenRowStep : ROW_STEP;
  Eight sums[ROWS][2];
#pragma GCC unroll 8
  for (int row = 0; row < ROWS; row += 1) {
    sums[row][0] = ADDS ? _mm256_loadu_ps(product + row * productStep) : _mm256_setzero_ps();
    sums[row][1] = ADDS ? _mm256_loadu_ps(product + row * productStep + 8) : _mm256_setzero_ps();
  }
  for (int place = 0; place < depth; place += 1) {
    const Eight first = _mm256_load_ps(right);
    const Eight second = _mm256_load_ps(right + 8);
#pragma GCC unroll 8
    for (int row = 0; row < ROWS; row += 1) {
      const Eight factor = _mm256_broadcast_ss(left + row * rowStep);
      sums[row][0] = _mm256_fmadd_ps(factor, first, sums[row][0]);
      sums[row][1] = _mm256_fmadd_ps(factor, second, sums[row][1]);
    }
    left += DEPTH_STEP;
    right += PANEL_WIDTH;
  }
#pragma GCC unroll 8
  for (int row = 0; row < ROWS; row += 1) {
    _mm256_storeu_ps(product + row * productStep, sums[row][0]);
    _mm256_storeu_ps(product + row * productStep + 8, sums[row][1]);
  }
}

/** Like `multiplyRows`, for any number of rows up to six. */
template <bool ADDS, int ROW_STEP, int DEPTH_STEP>
inline void multiply(int rows, int depth, const float* left, std::size_t rowStep, const float* right, float* product, std::size_t productStep) {
  switch (rows) {
    case 1: return multiplyRows<1, ADDS, ROW_STEP, DEPTH_STEP>(depth, left, rowStep, right, product, productStep);
    case 2: return multiplyRows<2, ADDS, ROW_STEP, DEPTH_STEP>(depth, left, rowStep, right, product, productStep);
    case 3: return multiplyRows<3, ADDS, ROW_STEP, DEPTH_STEP>(depth, left, rowStep, right, product, productStep);
    case 4: return multiplyRows<4, ADDS, ROW_STEP, DEPTH_STEP>(depth, left, rowStep, right, product, productStep);
    case 5: return multiplyRows<5, ADDS, ROW_STEP, DEPTH_STEP>(depth, left, rowStep, right, product, productStep);
    default: return multiplyRows<ROWS_AT_ONCE, ADDS, ROW_STEP, DEPTH_STEP>(depth, left, rowStep, right, product, productStep);
  }
}

}  // namespace
}  // namespace paraffin

#pragma GCC pop_options
