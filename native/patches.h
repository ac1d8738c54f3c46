/**
 * The convolution with any window, and its two gradients, as matrix products over patches, in float32 for processors
 * with AVX2 and FMA. Patches are made a few at a time, in a core's own cache, and never held in memory as a whole.
 *
 * Images are NHWC, filters HWIO. Output channels come in multiples of 16; for the gradient with respect to the images,
 * input channels too. The result does not depend on the number of threads. One call at a time: calls share a workspace.
 */
#pragma once

#include "convolution-shape.h"
#include "epilogue.h"

namespace paraffin {

/** Without an epilogue (nullptr) the output is the convolution itself. */
void convolveByPatches(const ConvolutionShape& shape, const float* images, const float* filter, const Epilogue* epilogue, float* output);
void inputGradientByPatches(const ConvolutionShape& shape, const float* filter, const float* outputGradient, float* gradient);
void filterGradientByPatches(const ConvolutionShape& shape, const float* images, const float* outputGradient, float* gradient);

}  // namespace paraffin
