/**
 * What becomes of a convolution's sums before they leave a core's cache: batch norm by known statistics, the addition of
 * a block's shortcut, and the ReLU. Passes of their own over the images would read and write all of them again.
 */
#pragma once

#include <immintrin.h>

#include <cstddef>

#pragma GCC push_options
#pragma GCC target("avx2,fma")

namespace paraffin {

/** output = sum * scale + offset + addend, and at least zero where it is rectified. */
struct Epilogue {
  /** [outputChannels], as is the offset. */
  const float* scale;
  const float* offset;
  /** Of the output's shape, or nullptr. */
  const float* addend;
  bool isRectified;
};

/** Eight sums from `channel` on, of which the first lies `place` floats into the output. NaN stays NaN. */
inline __m256 finish(const Epilogue& epilogue, __m256 sums, int channel, std::size_t place) {
  __m256 values = _mm256_fmadd_ps(sums, _mm256_loadu_ps(epilogue.scale + channel), _mm256_loadu_ps(epilogue.offset + channel));
  if (epilogue.addend != nullptr) values = _mm256_add_ps(values, _mm256_loadu_ps(epilogue.addend + place));
  // Of a NaN and a number this instruction takes the second.
  return epilogue.isRectified ? _mm256_max_ps(_mm256_setzero_ps(), values) : values;
}

}  // namespace paraffin

#pragma GCC pop_options
