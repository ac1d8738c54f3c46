/**
 * Batch norm in training over the rows of [rows, channels] (Ioffe and Szegedy 2015, arXiv:1502.03167), with the ReLU
 * that follows it, and their gradient, in float32 for processors with AVX2 and FMA: two passes over the data each, sums
 * in float64. Channels come in multiples of 8.
 *
 * The result does not depend on the number of threads. One call at a time: calls share a workspace.
 */
#pragma once

namespace paraffin {

struct BatchNormShape {
  int rows;
  int channels;
  bool isRectified;
};

/**
 * output = ReLU(scale * (images - mean) / sqrt(variance + epsilon) + offset), with the mean and the (biased) variance
 * of each channel, which are outputs too. At least one row.
 */
void normalise(const BatchNormShape& shape, float epsilon, const float* images, const float* scale, const float* offset, float* output, float* mean, float* variance);

/**
 * Computes the gradients of the images, the scale and the offset from the gradient of the output. `output` gives the
 * ReLU mask.
 */
void normaliseGradient(const BatchNormShape& shape, float epsilon, const float* outputGradient, const float* images, const float* output, const float* scale, const float* mean,
                       const float* variance, float* imagesGradient, float* scaleGradient, float* offsetGradient);

}  // namespace paraffin
