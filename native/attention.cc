#include "attention.h"

#include <immintrin.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <limits>

#include "eight.h"
#include "packed-product.h"
#include "threads.h"
#include "workspace.h"

#pragma GCC target("avx2,fma")

namespace paraffin {
namespace {

/** Queries whose weights are computed at once: a multiple of the kernels' rows, so few that their weights stay in the cache. */
int queriesAtOnce(int tokens) { return std::clamp(L2_FLOATS / 4 / tokens / 24 * 24, 24, 96); }

/** One head of one image. */
class Head {
 public:
  Head(const ProductKernel& kernel, const AttentionShape& shape, int place)
      : kernel_(kernel), tokens_(shape.tokens), width_(shape.headWidth), allWidth_(static_cast<std::size_t>(shape.heads) * shape.headWidth),
        image_(place / shape.heads), head_(place % shape.heads), scale_(1 / std::sqrt(static_cast<float>(shape.headWidth))) {}

  int tokens() const { return tokens_; }
  int width() const { return width_; }
  float scale() const { return scale_; }
  int tokenPanels() const { return panelCount(tokens_); }
  int widthPanels() const { return panelCount(width_); }
  std::size_t paddedTokens() const { return static_cast<std::size_t>(tokenPanels()) * PANEL_COLUMNS; }
  std::size_t paddedWidth() const { return static_cast<std::size_t>(widthPanels()) * PANEL_COLUMNS; }
  /** Floats from one token to the next, in qkv and in the output. */
  std::size_t qkvStep() const { return 3 * allWidth_; }
  std::size_t outputStep() const { return allWidth_; }

  /** Where the head's queries (0), keys (1) or values (2) of the first token are. */
  std::size_t qkvPlace(int part) const { return static_cast<std::size_t>(image_) * tokens_ * qkvStep() + part * allWidth_ + static_cast<std::size_t>(head_) * width_; }
  std::size_t outputPlace() const { return static_cast<std::size_t>(image_) * tokens_ * outputStep() + static_cast<std::size_t>(head_) * width_; }
  std::size_t statisticsPlace(int heads) const { return (static_cast<std::size_t>(image_) * heads + head_) * tokens_ * ROW_STATISTICS; }

  /** [tokens, width] as the right factor [width, tokens] of a product over features. */
  void packOverFeatures(const float* values, std::size_t step, float* packed) const {
    for (int panel = 0; panel < tokenPanels(); panel += 1)
      packPanel(Factors::FLOAT32, {values, step, true}, width_, tokens_, panel, packed + static_cast<std::size_t>(panel) * width_ * PANEL_COLUMNS);
  }

  /** `count` tokens [count, width] as the right factor of a product over tokens. */
  void packOverTokens(const float* values, std::size_t step, int count, float* packed) const {
    for (int panel = 0; panel < widthPanels(); panel += 1)
      packPanel(Factors::FLOAT32, {values, step, false}, count, width_, panel, packed + static_cast<std::size_t>(panel) * count * PANEL_COLUMNS);
  }

  /** product [rows, paddedTokens] = left [rows, width], `leftStep` apart, times what `packOverFeatures` has packed. */
  void overFeatures(int rows, const float* left, std::size_t leftStep, const float* packed, float* product) const {
    multiplyPacked(kernel_, rows, tokenPanels(), {width_, left, leftStep, 1, packed, static_cast<std::size_t>(width_) * PANEL_COLUMNS, product, paddedTokens(), PANEL_COLUMNS, false});
  }

  /** product [rows, paddedWidth] = left [rows, depth] times what `packOverTokens` has packed of `depth` tokens; added if so requested. */
  void overTokens(int rows, int depth, const float* left, std::size_t rowStep, std::size_t depthStep, const float* packed, float* product, bool adds) const {
    multiplyPacked(kernel_, rows, widthPanels(), {depth, left, rowStep, depthStep, packed, static_cast<std::size_t>(depth) * PANEL_COLUMNS, product, paddedWidth(), PANEL_COLUMNS, adds});
  }

  /** Writes rows [rows, paddedWidth] times a factor to the tokens from `to` on. */
  void write(int rows, const float* from, float factor, float* to, std::size_t step) const {
    const __m256 factors = _mm256_set1_ps(factor);
    for (int row = 0; row < rows; row += 1) {
      for (int column = 0; column < width_; column += 8)
        storePart(to + row * step + column, width_ - column, _mm256_mul_ps(_mm256_load_ps(from + row * paddedWidth() + column), factors));
    }
  }

 private:
  const ProductKernel& kernel_;
  const int tokens_;
  const int width_;
  const std::size_t allWidth_;
  const int image_;
  const int head_;
  const float scale_;
};

/** The largest of a row's products, whose length is a multiple of 16. NaN is not seen here but in the sum. */
float largest(const float* row, std::size_t length) {
  __m256 most = _mm256_load_ps(row);
  for (std::size_t place = 8; place < length; place += 8) most = _mm256_max_ps(most, _mm256_load_ps(row + place));
  alignas(32) float each[8];
  _mm256_store_ps(each, most);
  return *std::max_element(each, each + 8);
}

/** e^(scale * (product - most)) in place of every product of a row; returns their sum. */
float exponentials(float* row, std::size_t length, float scale, float most) {
  __m256 sum = _mm256_setzero_ps();
  for (std::size_t place = 0; place < length; place += 8) {
    const __m256 value = expOfNegative(_mm256_mul_ps(_mm256_sub_ps(_mm256_load_ps(row + place), _mm256_set1_ps(most)), _mm256_set1_ps(scale)));
    sum = _mm256_add_ps(sum, value);
    _mm256_store_ps(row + place, value);
  }
  return sumOf(sum);
}

/** Columns beyond the last token get no weight. */
void hidePadding(const Head& head, float* row) { std::fill(row + head.tokens(), row + head.paddedTokens(), -std::numeric_limits<float>::infinity()); }

}  // namespace

void attend(const ProductKernel& kernel, const AttentionShape& shape, const float* qkv, float* output, float* statistics) {
  parallelFor(shape.images * shape.heads, [&](int place) {
    static thread_local Workspace keySpace;
    static thread_local Workspace valueSpace;
    static thread_local Workspace weightSpace;
    static thread_local Workspace sumSpace;
    const Head head(kernel, shape, place);
    const int atOnce = queriesAtOnce(head.tokens());
    float* const keys = keySpace.take(head.paddedTokens() * head.width());
    float* const values = valueSpace.take(head.paddedWidth() * head.tokens());
    float* const weights = weightSpace.take(head.paddedTokens() * atOnce);
    float* const sums = sumSpace.take(head.paddedWidth() * atOnce);
    head.packOverFeatures(qkv + head.qkvPlace(1), head.qkvStep(), keys);
    head.packOverTokens(qkv + head.qkvPlace(2), head.qkvStep(), head.tokens(), values);
    for (int first = 0; first < head.tokens(); first += atOnce) {
      const int rows = std::min(atOnce, head.tokens() - first);
      head.overFeatures(rows, qkv + head.qkvPlace(0) + first * head.qkvStep(), head.qkvStep(), keys, weights);
      float* const rowStatistics = statistics + head.statisticsPlace(shape.heads) + static_cast<std::size_t>(first) * ROW_STATISTICS;
      for (int row = 0; row < rows; row += 1) {
        float* const ofRow = weights + row * head.paddedTokens();
        hidePadding(head, ofRow);
        const float most = largest(ofRow, head.paddedTokens());
        rowStatistics[row * ROW_STATISTICS] = most;
        rowStatistics[row * ROW_STATISTICS + 1] = 1 / exponentials(ofRow, head.paddedTokens(), head.scale(), most);
      }
      head.overTokens(rows, head.tokens(), weights, head.paddedTokens(), 1, values, sums, false);
      for (int row = 0; row < rows; row += 1)
        head.write(1, sums + row * head.paddedWidth(), rowStatistics[row * ROW_STATISTICS + 1], output + head.outputPlace() + (first + row) * head.outputStep(), head.outputStep());
    }
  });
}

void attendGradient(const ProductKernel& kernel, const AttentionShape& shape, const float* qkv, const float* statistics, const float* outputGradient, float* gradient) {
  parallelFor(shape.images * shape.heads, [&](int place) {
    static thread_local Workspace packedSpace;
    static thread_local Workspace weightSpace;
    static thread_local Workspace sumSpace;
    const Head head(kernel, shape, place);
    const int tokens = head.tokens();
    const int atOnce = queriesAtOnce(tokens);
    const std::size_t overFeatures = head.paddedTokens() * head.width();
    const std::size_t overTokens = head.paddedWidth() * tokens;
    const std::size_t ofQueries = head.paddedWidth() * atOnce;
    float* const keysOverFeatures = packedSpace.take(2 * overFeatures + overTokens + 2 * ofQueries);
    float* const valuesOverFeatures = keysOverFeatures + overFeatures;
    float* const keysOverTokens = valuesOverFeatures + overFeatures;
    float* const queries = keysOverTokens + overTokens;
    float* const arriving = queries + ofQueries;
    float* const weights = weightSpace.take(2 * head.paddedTokens() * atOnce);
    float* const slopes = weights + head.paddedTokens() * atOnce;
    float* const keySums = sumSpace.take(2 * overTokens + ofQueries);
    float* const valueSums = keySums + overTokens;
    float* const querySums = valueSums + overTokens;
    head.packOverFeatures(qkv + head.qkvPlace(1), head.qkvStep(), keysOverFeatures);
    head.packOverFeatures(qkv + head.qkvPlace(2), head.qkvStep(), valuesOverFeatures);
    head.packOverTokens(qkv + head.qkvPlace(1), head.qkvStep(), tokens, keysOverTokens);
    for (int first = 0; first < tokens; first += atOnce) {
      const int rows = std::min(atOnce, tokens - first);
      const float* const query = qkv + head.qkvPlace(0) + first * head.qkvStep();
      const float* const output = outputGradient + head.outputPlace() + first * head.outputStep();
      head.packOverTokens(query, head.qkvStep(), rows, queries);
      head.packOverTokens(output, head.outputStep(), rows, arriving);
      head.overFeatures(rows, query, head.qkvStep(), keysOverFeatures, weights);
      head.overFeatures(rows, output, head.outputStep(), valuesOverFeatures, slopes);
      const float* const rowStatistics = statistics + head.statisticsPlace(shape.heads) + static_cast<std::size_t>(first) * ROW_STATISTICS;
      for (int row = 0; row < rows; row += 1) {
        float* const weight = weights + row * head.paddedTokens();
        float* const slope = slopes + row * head.paddedTokens();
        hidePadding(head, weight);
        exponentials(weight, head.paddedTokens(), head.scale(), rowStatistics[row * ROW_STATISTICS]);
        const __m256 inverseSum = _mm256_set1_ps(rowStatistics[row * ROW_STATISTICS + 1]);
        __m256 along = _mm256_setzero_ps();
        for (std::size_t column = 0; column < head.paddedTokens(); column += 8) {
          const __m256 value = _mm256_mul_ps(_mm256_load_ps(weight + column), inverseSum);
          _mm256_store_ps(weight + column, value);
          along = _mm256_fmadd_ps(value, _mm256_load_ps(slope + column), along);
        }
        // The gradient of a softmax: weight * (slope - the mean slope under the weights).
        const __m256 meanSlope = _mm256_set1_ps(sumOf(along));
        for (std::size_t column = 0; column < head.paddedTokens(); column += 8)
          _mm256_store_ps(slope + column, _mm256_mul_ps(_mm256_load_ps(weight + column), _mm256_sub_ps(_mm256_load_ps(slope + column), meanSlope)));
      }
      head.overTokens(rows, tokens, slopes, head.paddedTokens(), 1, keysOverTokens, querySums, false);
      head.write(rows, querySums, head.scale(), gradient + head.qkvPlace(0) + first * head.qkvStep(), head.qkvStep());
      head.overTokens(tokens, rows, slopes, 1, head.paddedTokens(), queries, keySums, first > 0);
      head.overTokens(tokens, rows, weights, 1, head.paddedTokens(), arriving, valueSums, first > 0);
    }
    head.write(tokens, keySums, head.scale(), gradient + head.qkvPlace(1), head.qkvStep());
    head.write(tokens, valueSums, 1, gradient + head.qkvPlace(2), head.qkvStep());
  });
}

}  // namespace paraffin
