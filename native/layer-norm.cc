#include "layer-norm.h"

#include <immintrin.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

#include "eight.h"
#include "threads.h"

#pragma GCC target("avx2,fma")

namespace paraffin {
namespace {

/**
 * Numbers that one thread processes at once. It depends only on shapes, and so does the order of every sum. So few rows
 * are summed in float32 that their sum loses no digits that matter.
 */
constexpr int FLOATS_PER_UNIT = 32768;

int rowsPerUnit(int columns) { return std::clamp(FLOATS_PER_UNIT / columns, 1, 128); }

/** Calls `visit(column, count)` for every eight columns; `count` is 8 or what is left. */
template <typename Visit>
void eachEight(int columns, Visit visit) {
  int column = 0;
  for (; column + 8 <= columns; column += 8) visit(column, 8);
  if (column < columns) visit(column, columns - column);
}

/** The sum over the columns of `term(column, count)`, which must be zero in lanes from `count` on. */
template <typename Term>
float sumOver(int columns, Term term) {
  __m256 sums[4] = {_mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps()};
  int column = 0;
  // Four sums, because one would wait for itself.
  for (; column + 32 <= columns; column += 32) {
    for (int part = 0; part < 4; part += 1) sums[part] = _mm256_add_ps(sums[part], term(column + 8 * part, 8));
  }
  for (; column < columns; column += 8) sums[0] = _mm256_add_ps(sums[0], term(column, std::min(8, columns - column)));
  return sumOf(_mm256_add_ps(_mm256_add_ps(sums[0], sums[1]), _mm256_add_ps(sums[2], sums[3])));
}

/** Zero in lanes from `count` on. */
__m256 onlyFirst(__m256 values, int count) { return count >= 8 ? values : _mm256_and_ps(values, _mm256_castsi256_ps(firstLanes(count))); }

}  // namespace

void normaliseRows(const LayerNormShape& shape, float epsilon, const float* values, const float* scale, const float* offset, float* output, float* mean, float* inverseStd) {
  const int columns = shape.columns;
  const int unitRows = rowsPerUnit(columns);
  parallelFor((shape.rows + unitRows - 1) / unitRows, [=](int unit) {
    for (int row = unit * unitRows; row < std::min(shape.rows, (unit + 1) * unitRows); row += 1) {
      const float* const from = values + static_cast<std::size_t>(row) * columns;
      float* const to = output + static_cast<std::size_t>(row) * columns;
      const float average = sumOver(columns, [=](int column, int count) { return loadPart(from + column, count); }) / columns;
      const __m256 centre = _mm256_set1_ps(average);
      const float squares = sumOver(columns, [=](int column, int count) {
        const __m256 deviation = onlyFirst(_mm256_sub_ps(loadPart(from + column, count), centre), count);
        return _mm256_mul_ps(deviation, deviation);
      });
      const float factor = 1 / std::sqrt(squares / columns + epsilon);
      mean[row] = average;
      inverseStd[row] = factor;
      eachEight(columns, [=](int column, int count) {
        const __m256 normalised = _mm256_mul_ps(_mm256_sub_ps(loadPart(from + column, count), centre), _mm256_set1_ps(factor));
        storePart(to + column, count, _mm256_fmadd_ps(normalised, loadPart(scale + column, count), loadPart(offset + column, count)));
      });
    }
  });
}

void normaliseRowsGradient(const LayerNormShape& shape, const float* outputGradient, const float* values, const float* scale, const float* mean, const float* inverseStd, float* valuesGradient,
                           float* scaleGradient, float* offsetGradient) {
  const int columns = shape.columns;
  const int unitRows = rowsPerUnit(columns);
  const int units = (shape.rows + unitRows - 1) / unitRows;
  // Of each unit, the gradients of the scale and of the offset.
  std::vector<float> parts(2 * static_cast<std::size_t>(units) * columns, 0.0F);
  parallelFor(units, [&](int unit) {
    float* const scalePart = parts.data() + 2 * static_cast<std::size_t>(unit) * columns;
    float* const offsetPart = scalePart + columns;
    for (int row = unit * unitRows; row < std::min(shape.rows, (unit + 1) * unitRows); row += 1) {
      const std::size_t place = static_cast<std::size_t>(row) * columns;
      const float* const gradient = outputGradient + place;
      const float* const from = values + place;
      const __m256 centre = _mm256_set1_ps(mean[row]);
      const __m256 factor = _mm256_set1_ps(inverseStd[row]);
      const auto normalisedAt = [=](int column, int count) { return onlyFirst(_mm256_mul_ps(_mm256_sub_ps(loadPart(from + column, count), centre), factor), count); };
      __m256 level = _mm256_setzero_ps();
      __m256 slope = _mm256_setzero_ps();
      eachEight(columns, [&](int column, int count) {
        const __m256 arriving = loadPart(gradient + column, count);
        const __m256 normalised = normalisedAt(column, count);
        const __m256 scaled = _mm256_mul_ps(arriving, loadPart(scale + column, count));
        level = _mm256_add_ps(level, scaled);
        slope = _mm256_fmadd_ps(scaled, normalised, slope);
        storePart(scalePart + column, count, _mm256_fmadd_ps(arriving, normalised, loadPart(scalePart + column, count)));
        storePart(offsetPart + column, count, _mm256_add_ps(arriving, loadPart(offsetPart + column, count)));
      });
      const __m256 meanLevel = _mm256_set1_ps(sumOf(level) / columns);
      const __m256 meanSlope = _mm256_set1_ps(sumOf(slope) / columns);
      eachEight(columns, [=](int column, int count) {
        const __m256 scaled = _mm256_mul_ps(loadPart(gradient + column, count), loadPart(scale + column, count));
        const __m256 centred = _mm256_fnmadd_ps(normalisedAt(column, count), meanSlope, _mm256_sub_ps(scaled, meanLevel));
        storePart(valuesGradient + place + column, count, _mm256_mul_ps(centred, factor));
      });
    }
  });
  for (int column = 0; column < columns; column += 1) {
    double scaleSum = 0;
    double offsetSum = 0;
    for (int unit = 0; unit < units; unit += 1) {
      scaleSum += parts[2 * static_cast<std::size_t>(unit) * columns + column];
      offsetSum += parts[(2 * static_cast<std::size_t>(unit) + 1) * columns + column];
    }
    scaleGradient[column] = static_cast<float>(scaleSum);
    offsetGradient[column] = static_cast<float>(offsetSum);
  }
}

}  // namespace paraffin
