/**
 * Eight float32 numbers at once, for AVX2 and FMA: loads and stores of fewer than eight, sums, transposes, and the functions that
 * transformers need.
 */
#pragma once

#include <immintrin.h>

#include <cstdint>

#pragma GCC push_options
#pragma GCC target("avx2,fma")

namespace paraffin {
namespace {

using Eight = __m256;

inline __m256i firstLanes(int count) { return _mm256_cmpgt_epi32(_mm256_set1_epi32(count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)); }

/** The first `count` of eight numbers, and zeros; reads nothing beyond them. */
inline Eight loadPart(const float* from, int count) {
  return count >= 8 ? _mm256_loadu_ps(from) : _mm256_maskload_ps(from, firstLanes(count));
}

inline void storePart(float* to, int count, Eight values) {
  if (count >= 8) _mm256_storeu_ps(to, values);
  else _mm256_maskstore_ps(to, firstLanes(count), values);
}

inline float sumOf(Eight values) {
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(values), _mm256_extractf128_ps(values, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

/** e^x for x up to 0, within 2 units in the last place; 0 below the smallest normal number. NaN is propagated. */
inline Eight expOfNegative(Eight x) {
  constexpr float LOWEST = -87.3F;
  // If an operand is NaN, this instruction returns the second one.
  const Eight clamped = _mm256_max_ps(_mm256_set1_ps(LOWEST), x);
  const Eight power = _mm256_round_ps(_mm256_mul_ps(clamped, _mm256_set1_ps(1.44269504F)), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  // ln 2 in two parts, so that the remainder is exact (Cody and Waite 1980).
  const Eight rest = _mm256_fnmadd_ps(power, _mm256_set1_ps(-2.12194440e-4F), _mm256_fnmadd_ps(power, _mm256_set1_ps(0.693359375F), clamped));
  // Coefficients of the Cephes library's expf.
  Eight sum = _mm256_set1_ps(1.9875691500e-4F);
  for (const float coefficient : {1.3981999507e-3F, 8.3334519073e-3F, 4.1665795894e-2F, 1.6666665459e-1F, 5.0000001201e-1F})
    sum = _mm256_fmadd_ps(sum, rest, _mm256_set1_ps(coefficient));
  const Eight value = _mm256_fmadd_ps(sum, _mm256_mul_ps(rest, rest), _mm256_add_ps(rest, _mm256_set1_ps(1)));
  const __m256i exponent = _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(power), _mm256_set1_epi32(127)), 23);
  const Eight scaled = _mm256_mul_ps(value, _mm256_castsi256_ps(exponent));
  return _mm256_andnot_ps(_mm256_cmp_ps(x, _mm256_set1_ps(LOWEST), _CMP_LT_OQ), scaled);
}

/** The error function, within 3e-7. NaN is propagated. */
inline Eight errorFunction(Eight x) {
  // Beyond 4 it is 1 in float32. If an operand is NaN, these instructions return the second one.
  const Eight clamped = _mm256_min_ps(_mm256_set1_ps(4), _mm256_max_ps(_mm256_set1_ps(-4), x));
  const Eight square = _mm256_mul_ps(clamped, clamped);
  // The rational approximation of Eigen's perf.
  Eight upper = _mm256_set1_ps(-2.72614225801306e-10F);
  for (const float coefficient : {2.77068142495902e-08F, -2.10102402082508e-06F, -5.69250639462346e-05F, -7.34990630326855e-04F, -2.95459980854025e-03F, -1.60960333262415e-02F})
    upper = _mm256_fmadd_ps(upper, square, _mm256_set1_ps(coefficient));
  Eight lower = _mm256_set1_ps(-1.45660718464996e-05F);
  for (const float coefficient : {-2.13374055278905e-04F, -1.68282697438203e-03F, -7.37332916720468e-03F, -1.42647390514189e-02F})
    lower = _mm256_fmadd_ps(lower, square, _mm256_set1_ps(coefficient));
  return _mm256_div_ps(_mm256_mul_ps(clamped, upper), lower);
}

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

}  // namespace
}  // namespace paraffin

#pragma GCC pop_options
