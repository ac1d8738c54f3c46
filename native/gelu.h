/**
 * GELU (Hendrycks and Gimpel 2016, arXiv:1606.08415) with the exact normal distribution, and its gradient, in float32 for
 * processors with AVX2 and FMA: one pass over the numbers each.
 */
#pragma once

#include <cstddef>

namespace paraffin {

/** output = x Φ(x) */
void applyGelu(std::size_t count, const float* x, float* output);

/** gradient = outputGradient (Φ(x) + x φ(x)) */
void applyGeluGradient(std::size_t count, const float* x, const float* outputGradient, float* gradient);

}  // namespace paraffin
