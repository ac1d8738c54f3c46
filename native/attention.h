/**
 * Multi-head self-attention within each image (Vaswani et al. 2017, arXiv:1706.03762) and its gradient, in float32 for
 * processors with AVX2 and FMA. The weights, a number for each pair of tokens, stay in a core's cache: the gradient
 * computes them again (Dao et al. 2022, FlashAttention, arXiv:2205.14135), from each row's maximum and sum.
 *
 * qkv is [images, tokens, 3, heads, headWidth], output is [images, tokens, heads, headWidth]. The result does not depend on
 * the number of threads.
 */
#pragma once

#include "product-kernel.h"

namespace paraffin {

struct AttentionShape {
  int images;
  int tokens;
  int heads;
  int headWidth;
};

/** Statistics of a row of weights: the largest product, and 1 / the sum of exponentials. */
constexpr int ROW_STATISTICS = 2;

/** output = softmax(Q K^T / sqrt(headWidth)) V; statistics are [images, heads, tokens, 2]. */
void attend(const ProductKernel& kernel, const AttentionShape& shape, const float* qkv, float* output, float* statistics);

/** The gradient of qkv from the gradient of the output. */
void attendGradient(const ProductKernel& kernel, const AttentionShape& shape, const float* qkv, const float* statistics, const float* outputGradient, float* gradient);

}  // namespace paraffin
