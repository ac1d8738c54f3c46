/**
 * Operations on a convolution's sums before they leave a core's cache: batch norm by known statistics, the addition of
 * a block's shortcut, and the ReLU. Separate passes would read and write all images again.
 */
#pragma once

#include <immintrin.h>

#include <cstddef>

#pragma GCC push_options
#pragma GCC target("avx2,fma")

namespace paraffin {

/** output = sum * scale + offset + addend, with negative values set to zero if it is rectified. */
struct Epilogue {
  /** [outputChannels], as is the offset. */
  const float* scale;
  const float* offset;
  /** Of the output's shape, or nullptr. */
  const float* addend;
  bool isRectified;
};

/**
 * Finishes eight sums from `channel` on; the first one is at offset `place` (in floats) of the output. NaN is
 * propagated.
 */
inline __m256 finish(const Epilogue& epilogue, __m256 sums, int channel, std::size_t place) {
  __m256 values = _mm256_fmadd_ps(sums, _mm256_loadu_ps(epilogue.scale + channel), _mm256_loadu_ps(epilogue.offset + channel));
  if (epilogue.addend != nullptr) values = _mm256_add_ps(values, _mm256_loadu_ps(epilogue.addend + place));
  // If an operand is NaN, this instruction returns the second one.
  return epilogue.isRectified ? _mm256_max_ps(_mm256_setzero_ps(), values) : values;
}

}  // namespace paraffin

#pragma GCC pop_options
