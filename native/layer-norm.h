/**
 * Layer norm of the rows of [rows, columns] (Ba et al. 2016, arXiv:1607.06450) and its gradient, in float32 for
 * processors with AVX2 and FMA. The result does not depend on the number of threads.
 */
#pragma once

namespace paraffin {

struct LayerNormShape {
  int rows;
  int columns;
};

/** output = scale * (values - mean) * inverseStd + offset, with the mean and 1 / sqrt(variance + epsilon) of each row, which are outputs too. */
void normaliseRows(const LayerNormShape& shape, float epsilon, const float* values, const float* scale, const float* offset, float* output, float* mean, float* inverseStd);

/** Computes the gradients of the values, the scale and the offset from the gradient of the output. */
void normaliseRowsGradient(const LayerNormShape& shape, const float* outputGradient, const float* values, const float* scale, const float* mean, const float* inverseStd, float* valuesGradient,
                           float* scaleGradient, float* offsetGradient);

}  // namespace paraffin
