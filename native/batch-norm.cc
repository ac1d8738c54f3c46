#include "batch-norm.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

#include "eight.h"
#include "threads.h"

#pragma GCC target("avx2,fma")

namespace paraffin {
namespace {

using FourDoubles = __m256d;

/** Numbers that one thread processes at once. It depends only on shapes, and so does the order of every sum. */
constexpr int FLOATS_PER_UNIT = 32768;

FourDoubles lowerHalf(Eight values) { return _mm256_cvtps_pd(_mm256_castps256_ps128(values)); }
FourDoubles upperHalf(Eight values) { return _mm256_cvtps_pd(_mm256_extractf128_ps(values, 1)); }

void addTo(double* sums, Eight values) {
  _mm256_storeu_pd(sums, _mm256_loadu_pd(sums) + lowerHalf(values));
  _mm256_storeu_pd(sums + 4, _mm256_loadu_pd(sums + 4) + upperHalf(values));
}

void addProductTo(double* sums, Eight left, Eight right) {
  _mm256_storeu_pd(sums, _mm256_fmadd_pd(lowerHalf(left), lowerHalf(right), _mm256_loadu_pd(sums)));
  _mm256_storeu_pd(sums + 4, _mm256_fmadd_pd(upperHalf(left), upperHalf(right), _mm256_loadu_pd(sums + 4)));
}

/** Divides the rows into shares that threads process in parallel. */
class Shares {
 public:
  explicit Shares(const BatchNormShape& shape) : rows_(shape.rows), rowsEach_(std::max(1, FLOATS_PER_UNIT / shape.channels)) {}

  int count() const { return (rows_ + rowsEach_ - 1) / rowsEach_; }
  int begin(int share) const { return share * rowsEach_; }
  int end(int share) const { return std::min(rows_, (share + 1) * rowsEach_); }

 private:
  int rows_;
  int rowsEach_;
};

/**
 * Two sums over all rows for each channel: [2, channels]. `add(row, channel, first, second)` adds eight channels of a
 * row to each of them. Shares are summed in parallel, and their sums then one after another.
 */
template <typename Add>
std::vector<double> sumsOverRows(const BatchNormShape& shape, Add add) {
  const Shares shares(shape);
  const std::size_t width = 2 * static_cast<std::size_t>(shape.channels);
  std::vector<double> parts(width * shares.count(), 0.0);
  parallelFor(shares.count(), [&](int share) {
    double* const first = parts.data() + width * share;
    for (int row = shares.begin(share); row < shares.end(share); row += 1) {
      for (int channel = 0; channel < shape.channels; channel += 8) add(row, channel, first + channel, first + shape.channels + channel);
    }
  });
  std::vector<double> sums(width, 0.0);
  for (int share = 0; share < shares.count(); share += 1) {
    for (std::size_t place = 0; place < width; place += 1) sums[place] += parts[width * share + place];
  }
  return sums;
}

/** Calls `visit(place, channel)` for every eight numbers, in any order. */
template <typename Visit>
void eachEight(const BatchNormShape& shape, Visit visit) {
  const Shares shares(shape);
  parallelFor(shares.count(), [&](int share) {
    for (int row = shares.begin(share); row < shares.end(share); row += 1) {
      for (int channel = 0; channel < shape.channels; channel += 8) visit(static_cast<std::size_t>(row) * shape.channels + channel, channel);
    }
  });
}

/** The gradient through a ReLU: zero where its output is zero. */
Eight applyReluMask(Eight gradient, const float* output) { return _mm256_and_ps(gradient, _mm256_cmp_ps(_mm256_loadu_ps(output), _mm256_setzero_ps(), _CMP_GT_OQ)); }

}  // namespace

void normalise(const BatchNormShape& shape, float epsilon, const float* images, const float* scale, const float* offset, float* output, float* mean, float* variance) {
  const int channels = shape.channels;
  const std::vector<double> sums = sumsOverRows(shape, [=](int row, int channel, double* sum, double* squares) {
    const Eight values = _mm256_loadu_ps(images + static_cast<std::size_t>(row) * channels + channel);
    addTo(sum, values);
    addProductTo(squares, values, values);
  });
  std::vector<float> factor(channels);
  for (int channel = 0; channel < channels; channel += 1) {
    const double average = sums[channel] / shape.rows;
    // This order of the operands propagates NaN.
    const double rowVariance = std::max(sums[channels + channel] / shape.rows - average * average, 0.0);
    mean[channel] = static_cast<float>(average);
    variance[channel] = static_cast<float>(rowVariance);
    factor[channel] = static_cast<float>(scale[channel] / std::sqrt(rowVariance + epsilon));
  }
  eachEight(shape, [&](std::size_t place, int channel) {
    const Eight deviation = _mm256_loadu_ps(images + place) - _mm256_loadu_ps(mean + channel);
    const Eight value = _mm256_fmadd_ps(deviation, _mm256_loadu_ps(&factor[channel]), _mm256_loadu_ps(offset + channel));
    // With NaN the instruction returns its second operand, so this order propagates NaN instead of returning 0.
    _mm256_storeu_ps(output + place, shape.isRectified ? _mm256_max_ps(_mm256_setzero_ps(), value) : value);
  });
}

void normaliseGradient(const BatchNormShape& shape, float epsilon, const float* outputGradient, const float* images, const float* output, const float* scale, const float* mean,
                       const float* variance, float* imagesGradient, float* scaleGradient, float* offsetGradient) {
  const int channels = shape.channels;
  const auto maskedGradient = [=](std::size_t place) {
    const Eight gradient = _mm256_loadu_ps(outputGradient + place);
    return shape.isRectified ? applyReluMask(gradient, output + place) : gradient;
  };
  const std::vector<double> sums = sumsOverRows(shape, [=](int row, int channel, double* sum, double* products) {
    const std::size_t place = static_cast<std::size_t>(row) * channels + channel;
    const Eight gradient = maskedGradient(place);
    addTo(sum, gradient);
    addProductTo(products, gradient, _mm256_loadu_ps(images + place) - _mm256_loadu_ps(mean + channel));
  });
  // gradient with respect to images = factor * maskedGradient - slope * (images - mean) - level
  std::vector<float> factor(channels);
  std::vector<float> slope(channels);
  std::vector<float> level(channels);
  for (int channel = 0; channel < channels; channel += 1) {
    const double inverseStd = 1 / std::sqrt(static_cast<double>(variance[channel]) + epsilon);
    offsetGradient[channel] = static_cast<float>(sums[channel]);
    scaleGradient[channel] = static_cast<float>(sums[channels + channel] * inverseStd);
    const double scaledInverseStd = scale[channel] * inverseStd;
    factor[channel] = static_cast<float>(scaledInverseStd);
    slope[channel] = static_cast<float>(scaledInverseStd * inverseStd * inverseStd * sums[channels + channel] / shape.rows);
    level[channel] = static_cast<float>(scaledInverseStd * sums[channel] / shape.rows);
  }
  eachEight(shape, [&](std::size_t place, int channel) {
    const Eight deviation = _mm256_loadu_ps(images + place) - _mm256_loadu_ps(mean + channel);
    const Eight correction = _mm256_fmadd_ps(deviation, _mm256_loadu_ps(&slope[channel]), _mm256_loadu_ps(&level[channel]));
    _mm256_storeu_ps(imagesGradient + place, _mm256_fmsub_ps(maskedGradient(place), _mm256_loadu_ps(&factor[channel]), correction));
  });
}

}  // namespace paraffin
