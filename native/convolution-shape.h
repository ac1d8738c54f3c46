#pragma once

namespace paraffin {

/** A convolution of images [count, height, width, inputChannels] by a filter [side, side, inputChannels, outputChannels] to [count, outputHeight, outputWidth, outputChannels]. */
struct ConvolutionShape {
  int count;
  int height;
  int width;
  int inputChannels;
  int outputChannels;
  int outputHeight;
  int outputWidth;
  /** The window's, in pixels. */
  int side;
  int stride;
  int padding;
};

}  // namespace paraffin
