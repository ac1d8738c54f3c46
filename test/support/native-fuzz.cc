/**
 * Runs our convolutions and batch norm on shapes that are drawn at random, compiled with the address and undefined-behaviour
 * sanitizers, and holds each against the formula that defines it: native-fuzz SEED ROUNDS
 */
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>

#include "../../native/batch-norm.h"
#include "../../native/patches.h"
#include "../../native/winograd.h"

using namespace paraffin;

namespace {

std::mt19937 generator;

int drawn(int from, int to) { return std::uniform_int_distribution<int>(from, to)(generator); }

/** Each array has its own allocation, so that an access beyond either end is detected. */
std::unique_ptr<float[]> values(std::size_t count) {
  std::unique_ptr<float[]> made(new float[count]);
  for (std::size_t place = 0; place < count; place += 1) made[place] = std::uniform_real_distribution<float>(-1, 1)(generator);
  return made;
}

ConvolutionShape drawShape() {
  ConvolutionShape shape{};
  const bool isForTiles = drawn(0, 2) == 0;
  shape.side = isForTiles ? 3 : drawn(1, 7);
  shape.stride = isForTiles ? 1 : drawn(1, 4);
  // The padding may also be wider than the window or the image.
  shape.padding = isForTiles ? 1 : drawn(0, 3) == 0 ? drawn(0, 20) : drawn(0, shape.side / 2);
  const int least = std::max(1, shape.side - 2 * shape.padding);
  shape.height = drawn(least, least + 9);
  shape.width = drawn(least, least + 9);
  shape.count = drawn(1, 3);
  shape.inputChannels = 16 * drawn(1, 2);
  shape.outputChannels = 16 * drawn(1, 3);
  shape.outputHeight = (shape.height + 2 * shape.padding - shape.side) / shape.stride + 1;
  shape.outputWidth = (shape.width + 2 * shape.padding - shape.side) / shape.stride + 1;
  return shape;
}

/** Calls `visit` with the indexes of the image, filter and output values of each product. */
template <typename Visit>
void eachProduct(const ConvolutionShape& s, Visit visit) {
  for (int n = 0; n < s.count; n += 1)
    for (int y = 0; y < s.outputHeight; y += 1)
      for (int x = 0; x < s.outputWidth; x += 1)
        for (int v = 0; v < s.side; v += 1)
          for (int u = 0; u < s.side; u += 1) {
            const int row = y * s.stride + v - s.padding;
            const int column = x * s.stride + u - s.padding;
            if (row < 0 || row >= s.height || column < 0 || column >= s.width) continue;
            for (int i = 0; i < s.inputChannels; i += 1)
              for (int o = 0; o < s.outputChannels; o += 1)
                visit(((static_cast<std::size_t>(n) * s.height + row) * s.width + column) * s.inputChannels + i,
                      ((static_cast<std::size_t>(v) * s.side + u) * s.inputChannels + i) * s.outputChannels + o,
                      ((static_cast<std::size_t>(n) * s.outputHeight + y) * s.outputWidth + x) * s.outputChannels + o);
          }
}

void hold(const char* what, const ConvolutionShape& s, const float* found, const double* expected, std::size_t count) {
  for (std::size_t place = 0; place < count; place += 1)
    if (!(std::abs(found[place] - expected[place]) <= 1e-3 * (1 + std::abs(expected[place])))) {
      std::printf("%s of [%d, %d, %d, %d] by %dx%d, stride %d, padding %d: %g at %zu instead of %g\n", what, s.count, s.height, s.width, s.inputChannels, s.side, s.side,
                  s.stride, s.padding, found[place], place, expected[place]);
      std::exit(1);
    }
}

void holdEach(const char* what, const BatchNormShape& s, const float* found, const double* expected, std::size_t count) {
  for (std::size_t place = 0; place < count; place += 1)
    if (!(std::abs(found[place] - expected[place]) <= 1e-3 * (1 + std::abs(expected[place])))) {
      std::printf("%s of [%d, %d]: %g at %zu instead of %g\n", what, s.rows, s.channels, found[place], place, expected[place]);
      std::exit(1);
    }
}

void tryBatchNorm() {
  const BatchNormShape s{drawn(1, 80), 8 * drawn(1, 9), drawn(0, 1) == 0};
  const std::size_t channels = s.channels;
  const std::size_t count = s.rows * channels;
  const float epsilon = 1e-3F;
  const auto images = values(count), scale = values(channels), offset = values(channels), arriving = values(count);
  const auto output = values(count), mean = values(channels), variance = values(channels);
  const auto imagesGradient = values(count), scaleGradient = values(channels), offsetGradient = values(channels);
  const auto zeros = [](std::size_t size) { return std::unique_ptr<double[]>(new double[size]()); };
  const auto wantedOutput = zeros(count), wantedMean = zeros(channels), wantedVariance = zeros(channels);
  const auto wantedImages = zeros(count), wantedScale = zeros(channels), wantedOffset = zeros(channels);
  normalise(s, epsilon, images.get(), scale.get(), offset.get(), output.get(), mean.get(), variance.get());
  normaliseGradient(s, epsilon, arriving.get(), images.get(), output.get(), scale.get(), mean.get(), variance.get(), imagesGradient.get(), scaleGradient.get(), offsetGradient.get());
  for (std::size_t channel = 0; channel < channels; channel += 1) {
    double sum = 0, squares = 0;
    for (int row = 0; row < s.rows; row += 1) sum += images[row * channels + channel];
    const double centre = sum / s.rows;
    for (int row = 0; row < s.rows; row += 1) squares += std::pow(images[row * channels + channel] - centre, 2);
    wantedMean[channel] = centre;
    wantedVariance[channel] = squares / s.rows;
    const double inverse = 1 / std::sqrt(squares / s.rows + epsilon);
    // The mask is that of the output which the gradient is given.
    const auto passed = [&](int row) { return s.isRectified && !(output[row * channels + channel] > 0) ? 0.0 : static_cast<double>(arriving[row * channels + channel]); };
    const auto normalised = [&](int row) { return (images[row * channels + channel] - centre) * inverse; };
    for (int row = 0; row < s.rows; row += 1) {
      const double value = scale[channel] * normalised(row) + offset[channel];
      wantedOutput[row * channels + channel] = s.isRectified ? std::max(0.0, value) : value;
      wantedScale[channel] += passed(row) * normalised(row);
      wantedOffset[channel] += passed(row);
    }
    for (int row = 0; row < s.rows; row += 1)
      wantedImages[row * channels + channel] = scale[channel] * inverse * (passed(row) - (wantedOffset[channel] + normalised(row) * wantedScale[channel]) / s.rows);
  }
  holdEach("batch norm", s, output.get(), wantedOutput.get(), count);
  holdEach("mean", s, mean.get(), wantedMean.get(), channels);
  holdEach("variance", s, variance.get(), wantedVariance.get(), channels);
  holdEach("gradient of images by batch norm", s, imagesGradient.get(), wantedImages.get(), count);
  holdEach("gradient of the scale", s, scaleGradient.get(), wantedScale.get(), channels);
  holdEach("gradient of the offset", s, offsetGradient.get(), wantedOffset.get(), channels);
}

void tryConvolution() {
  const ConvolutionShape s = drawShape();
  const std::size_t imageCount = static_cast<std::size_t>(s.count) * s.height * s.width * s.inputChannels;
  const std::size_t filterCount = static_cast<std::size_t>(s.side) * s.side * s.inputChannels * s.outputChannels;
  const std::size_t outputCount = static_cast<std::size_t>(s.count) * s.outputHeight * s.outputWidth * s.outputChannels;
  const auto images = values(imageCount);
  const auto filter = values(filterCount);
  const auto arriving = values(outputCount);
  const auto output = values(outputCount);
  const auto imageGradient = values(imageCount);
  const auto filterGradient = values(filterCount);
  const std::unique_ptr<double[]> wantedOutput(new double[outputCount]());
  const std::unique_ptr<double[]> wantedImages(new double[imageCount]());
  const std::unique_ptr<double[]> wantedFilter(new double[filterCount]());
  eachProduct(s, [&](std::size_t image, std::size_t weight, std::size_t place) {
    wantedOutput[place] += static_cast<double>(images[image]) * filter[weight];
    wantedImages[image] += static_cast<double>(arriving[place]) * filter[weight];
    wantedFilter[weight] += static_cast<double>(arriving[place]) * images[image];
  });
  const auto scale = values(s.outputChannels);
  const auto offset = values(s.outputChannels);
  const auto addend = values(outputCount);
  const Epilogue drawnEpilogue{scale.get(), offset.get(), drawn(0, 1) == 0 ? nullptr : addend.get(), drawn(0, 1) == 0};
  const Epilogue* const epilogue = drawn(0, 2) == 0 ? nullptr : &drawnEpilogue;
  if (epilogue != nullptr)
    for (std::size_t place = 0; place < outputCount; place += 1) {
      const std::size_t channel = place % s.outputChannels;
      const double sum = wantedOutput[place] * scale[channel] + offset[channel] + (epilogue->addend == nullptr ? 0 : addend[place]);
      wantedOutput[place] = epilogue->isRectified ? std::max(0.0, sum) : sum;
    }
  if (s.side == 3 && s.stride == 1 && s.padding == 1) {
    convolveByTiles(s, images.get(), filter.get(), epilogue, output.get());
    hold("tiles", s, output.get(), wantedOutput.get(), outputCount);
    inputGradientByTiles(s, filter.get(), arriving.get(), imageGradient.get());
    hold("gradient of images by tiles", s, imageGradient.get(), wantedImages.get(), imageCount);
    filterGradientByTiles(s, images.get(), arriving.get(), filterGradient.get());
    hold("gradient of the filter by tiles", s, filterGradient.get(), wantedFilter.get(), filterCount);
  }
  convolveByPatches(s, images.get(), filter.get(), epilogue, output.get());
  hold("patches", s, output.get(), wantedOutput.get(), outputCount);
  inputGradientByPatches(s, filter.get(), arriving.get(), imageGradient.get());
  hold("gradient of images by patches", s, imageGradient.get(), wantedImages.get(), imageCount);
  filterGradientByPatches(s, images.get(), arriving.get(), filterGradient.get());
  hold("gradient of the filter by patches", s, filterGradient.get(), wantedFilter.get(), filterCount);
}

}  // namespace

int main(int count, char** words) {
  if (count != 3) return 2;
  generator.seed(static_cast<unsigned>(std::atoi(words[1])));
  for (int round = 0; round < std::atoi(words[2]); round += 1) {
    tryConvolution();
    tryBatchNorm();
  }
  std::puts("sound");
  return 0;
}
