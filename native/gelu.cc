#include "gelu.h"

#include <immintrin.h>

#include <algorithm>

#include "eight.h"
#include "threads.h"

#pragma GCC target("avx2,fma")

namespace paraffin {
namespace {

constexpr std::size_t FLOATS_PER_UNIT = 16384;
constexpr float SQRT_HALF = 0.707106781186547524F;
constexpr float INVERSE_SQRT_TWO_PI = 0.398942280401432678F;

/** Φ(x), the normal distribution's cumulative function. */
__m256 normalCdf(__m256 x) {
  const __m256 half = _mm256_set1_ps(0.5F);
  return _mm256_fmadd_ps(half, errorFunction(_mm256_mul_ps(x, _mm256_set1_ps(SQRT_HALF))), half);
}

/** φ(x), its density. */
__m256 normalDensity(__m256 x) {
  return _mm256_mul_ps(expOfNegative(_mm256_mul_ps(_mm256_mul_ps(x, x), _mm256_set1_ps(-0.5F))), _mm256_set1_ps(INVERSE_SQRT_TWO_PI));
}

/** Calls `visit(place, count)` for every eight numbers, on all threads; `count` is 8 or what is left. */
template <typename Visit>
void eachEight(std::size_t count, Visit visit) {
  parallelFor(static_cast<int>((count + FLOATS_PER_UNIT - 1) / FLOATS_PER_UNIT), [=](int unit) {
    const std::size_t end = std::min(count, (unit + 1) * FLOATS_PER_UNIT);
    std::size_t place = unit * FLOATS_PER_UNIT;
    for (; place + 8 <= end; place += 8) visit(place, 8);
    if (place < end) visit(place, static_cast<int>(end - place));
  });
}

}  // namespace

void applyGelu(std::size_t count, const float* x, float* output) {
  eachEight(count, [=](std::size_t place, int part) {
    const __m256 values = loadPart(x + place, part);
    storePart(output + place, part, _mm256_mul_ps(values, normalCdf(values)));
  });
}

void applyGeluGradient(std::size_t count, const float* x, const float* outputGradient, float* gradient) {
  eachEight(count, [=](std::size_t place, int part) {
    const __m256 values = loadPart(x + place, part);
    const __m256 slope = _mm256_fmadd_ps(values, normalDensity(values), normalCdf(values));
    storePart(gradient + place, part, _mm256_mul_ps(loadPart(outputGradient + place, part), slope));
  });
}

}  // namespace paraffin
