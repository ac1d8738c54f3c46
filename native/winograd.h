/**
 * The 3x3 convolution of stride 1 with one pixel of padding, and its two gradients, by Winograd's F(2x2, 3x3) (Lavin
 * and Gray 2015, arXiv:1509.09308), in float32 for processors with AVX2 and FMA.
 *
 * A tile of 2x2 output pixels takes 16 products for each pair of channels where the definition takes 36. Tiles, filters
 * and gradients are transformed to 16 taps, where a convolution is one matrix product for each tap:
 *
 *   output          = A^T [ (G filter G^T) * (B^T images B) ] A         over 4x4 patches that overlap by two pixels
 *   images gradient = the same, of the output's gradient and the filter rotated by 180 degrees
 *   filter gradient = G^T [ sum over tiles of (B^T images B) * (A gradient A^T) ] G
 *
 * Images are NHWC, filters HWIO; channels come in multiples of 16. The result does not depend on the number of threads.
 * One call at a time: calls share a workspace.
 */
#pragma once

#include "convolution-shape.h"
#include "epilogue.h"

namespace paraffin {

/**
 * For shapes with side 3, stride 1 and padding 1. Without an epilogue (nullptr) the output is the convolution itself.
 */
void convolveByTiles(const ConvolutionShape& shape, const float* images, const float* filter, const Epilogue* epilogue, float* output);
void inputGradientByTiles(const ConvolutionShape& shape, const float* filter, const float* outputGradient, float* gradient);
void filterGradientByTiles(const ConvolutionShape& shape, const float* images, const float* outputGradient, float* gradient);

}  // namespace paraffin
