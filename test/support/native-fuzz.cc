/**
 * Runs our convolutions, batch norm and the layers of transformers on shapes that are drawn at random, compiled with the address and undefined-behaviour
 * sanitizers, and holds each against the formula that defines it: native-fuzz SEED ROUNDS
 */
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "../../native/attention.h"
#include "../../native/batch-norm.h"
#include "../../native/gelu.h"
#include "../../native/layer-norm.h"
#include "../../native/matrix-product.h"
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

using Doubles = std::vector<double>;

void holdAll(const char* what, int rows, int columns, const float* found, const Doubles& expected, double tolerance = 1e-3) {
  for (std::size_t place = 0; place < expected.size(); place += 1)
    if (!(std::abs(found[place] - expected[place]) <= tolerance * (1 + std::abs(expected[place])))) {
      std::printf("%s of [%d, %d]: %g at %zu instead of %g\n", what, rows, columns, found[place], place, expected[place]);
      std::exit(1);
    }
}

/** The nearest number of eight significant bits, the even one of two. */
double toBfloat16(float value) {
  int exponent = 0;
  const double mantissa = std::frexp(value, &exponent);
  return std::ldexp(std::nearbyint(std::ldexp(mantissa, 8)), exponent - 8);
}

/** Where the parts of a number of 16 bits are. */
struct Halves {
  Stored stored;
  int fractionBits;
  int exponentBias;
};

/** The value of 16 bits: sign, exponent, fraction; numbers with an exponent of 0 have no hidden bit (IEEE 754). */
double valueOf(std::uint16_t bits, const Halves& halves) {
  const int fraction = bits & ((1 << halves.fractionBits) - 1);
  const int exponent = (bits & 0x7FFF) >> halves.fractionBits;
  const int hidden = exponent == 0 ? 0 : 1 << halves.fractionBits;
  const double magnitude = std::ldexp(hidden + fraction, std::max(exponent, 1) - halves.exponentBias - halves.fractionBits);
  return (bits & 0x8000) != 0 ? -magnitude : magnitude;
}

/** Numbers between -2 and 2, the very small among them. */
std::unique_ptr<std::uint16_t[]> halvesOf(std::size_t count, const Halves& halves) {
  std::unique_ptr<std::uint16_t[]> made(new std::uint16_t[count]);
  const int end = (halves.exponentBias + 1) << halves.fractionBits;
  const int first = drawn(0, 1) == 0 ? 0 : (halves.exponentBias - 3) << halves.fractionBits;
  for (std::size_t place = 0; place < count; place += 1) made[place] = static_cast<std::uint16_t>(drawn(first, end - 1) | (drawn(0, 1) << 15));
  return made;
}

void tryProduct(const ProductKernel& kernel, Factors factors, const char* what) {
  const ProductShape s{drawn(1, 120), drawn(1, drawn(0, 3) == 0 ? 700 : 40), drawn(1, 80)};
  const bool isLeftTransposed = drawn(0, 1) == 0, isRightTransposed = drawn(0, 1) == 0;
  const std::size_t leftStep = (isLeftTransposed ? s.rows : s.depth), rightStep = (isRightTransposed ? s.depth : s.columns);
  const std::size_t count = static_cast<std::size_t>(s.rows) * s.columns, rightCount = static_cast<std::size_t>(s.depth) * s.columns;
  const auto left = values(static_cast<std::size_t>(s.rows) * s.depth), right = values(rightCount), offset = values(s.columns);
  const auto product = values(count), sums = values(s.columns);
  const bool hasOffset = drawn(0, 1) == 0;
  const Factor leftFactor{left.get(), leftStep, isLeftTransposed};
  const bool isNarrow = drawn(0, 1) == 0;
  const Halves halves = drawn(0, 1) == 0 ? Halves{Stored::BFLOAT16, 7, 127} : Halves{Stored::FLOAT16, 10, 15};
  const auto bits = halvesOf(isNarrow ? rightCount : 0, halves);
  for (std::size_t place = 0; isNarrow && place < rightCount; place += 1) right[place] = static_cast<float>(valueOf(bits[place], halves));
  multiplyMatrices(kernel, factors, s, leftFactor, {right.get(), rightStep, isRightTransposed}, hasOffset ? offset.get() : nullptr, product.get());
  if (isNarrow) {
    const auto fromBits = values(count);
    multiplyMatrices(kernel, factors, s, leftFactor, {bits.get(), rightStep, isRightTransposed, halves.stored}, hasOffset ? offset.get() : nullptr, fromBits.get());
    holdAll("product with 16 bits", s.rows, s.columns, fromBits.get(), Doubles(product.get(), product.get() + count), 0);
  }
  const auto rounded = [&](float value) { return factors == Factors::BFLOAT16 ? toBfloat16(value) : static_cast<double>(value); };
  Doubles wanted(count), wantedSums(s.columns);
  for (int row = 0; row < s.rows; row += 1)
    for (int column = 0; column < s.columns; column += 1) {
      double sum = hasOffset ? offset[column] : 0;
      for (int place = 0; place < s.depth; place += 1)
        sum += rounded(isLeftTransposed ? left[place * leftStep + row] : left[row * leftStep + place]) * rounded(isRightTransposed ? right[column * rightStep + place] : right[place * rightStep + column]);
      wanted[static_cast<std::size_t>(row) * s.columns + column] = sum;
      wantedSums[column] += product[static_cast<std::size_t>(row) * s.columns + column];
    }
  holdAll(what, s.rows, s.columns, product.get(), wanted, 1e-4);
  sumRows(product.get(), s.rows, s.columns, sums.get());
  holdAll("sum of rows", s.rows, s.columns, sums.get(), wantedSums, 1e-4);
}

void tryLayerNorm() {
  const LayerNormShape s{drawn(1, 300), drawn(1, 90)};
  const std::size_t count = static_cast<std::size_t>(s.rows) * s.columns;
  const float epsilon = 1e-3F;
  const auto from = values(count), scale = values(s.columns), offset = values(s.columns), arriving = values(count);
  const auto output = values(count), mean = values(s.rows), inverseStd = values(s.rows), gradient = values(count), scaleGradient = values(s.columns), offsetGradient = values(s.columns);
  normaliseRows(s, epsilon, from.get(), scale.get(), offset.get(), output.get(), mean.get(), inverseStd.get());
  normaliseRowsGradient(s, arriving.get(), from.get(), scale.get(), mean.get(), inverseStd.get(), gradient.get(), scaleGradient.get(), offsetGradient.get());
  Doubles wanted(count), wantedMean(s.rows), wantedInverse(s.rows), wantedGradient(count), wantedScale(s.columns), wantedOffset(s.columns);
  for (int row = 0; row < s.rows; row += 1) {
    const std::size_t start = static_cast<std::size_t>(row) * s.columns;
    double sum = 0, squares = 0, level = 0, slope = 0;
    for (int column = 0; column < s.columns; column += 1) sum += from[start + column];
    const double centre = sum / s.columns;
    for (int column = 0; column < s.columns; column += 1) squares += std::pow(from[start + column] - centre, 2);
    const double inverse = 1 / std::sqrt(squares / s.columns + epsilon);
    wantedMean[row] = centre;
    wantedInverse[row] = inverse;
    const auto normalised = [&](int column) { return (from[start + column] - centre) * inverse; };
    for (int column = 0; column < s.columns; column += 1) {
      wanted[start + column] = normalised(column) * scale[column] + offset[column];
      wantedScale[column] += arriving[start + column] * normalised(column);
      wantedOffset[column] += arriving[start + column];
      level += arriving[start + column] * static_cast<double>(scale[column]) / s.columns;
      slope += arriving[start + column] * scale[column] * normalised(column) / s.columns;
    }
    for (int column = 0; column < s.columns; column += 1)
      wantedGradient[start + column] = inverse * (arriving[start + column] * static_cast<double>(scale[column]) - level - slope * normalised(column));
  }
  holdAll("layer norm", s.rows, s.columns, output.get(), wanted);
  holdAll("mean of rows", s.rows, s.columns, mean.get(), wantedMean);
  holdAll("inverse deviation of rows", s.rows, s.columns, inverseStd.get(), wantedInverse);
  holdAll("gradient of rows", s.rows, s.columns, gradient.get(), wantedGradient);
  holdAll("gradient of the scale of rows", s.rows, s.columns, scaleGradient.get(), wantedScale);
  holdAll("gradient of the offset of rows", s.rows, s.columns, offsetGradient.get(), wantedOffset);
}

void tryGelu() {
  const std::size_t count = drawn(1, 40000);
  const auto x = values(count), arriving = values(count), output = values(count), gradient = values(count);
  for (std::size_t place = 0; place < count; place += 1) x[place] *= 8;
  applyGelu(count, x.get(), output.get());
  applyGeluGradient(count, x.get(), arriving.get(), gradient.get());
  Doubles wanted(count), wantedGradient(count);
  for (std::size_t place = 0; place < count; place += 1) {
    const double cumulative = 0.5 * std::erfc(-x[place] / std::sqrt(2.0));
    wanted[place] = x[place] * cumulative;
    wantedGradient[place] = arriving[place] * (cumulative + x[place] * std::exp(-0.5 * x[place] * x[place]) / std::sqrt(2 * M_PI));
  }
  holdAll("GELU", 1, static_cast<int>(count), output.get(), wanted, 2e-6);
  holdAll("gradient of GELU", 1, static_cast<int>(count), gradient.get(), wantedGradient, 2e-6);
}

void tryAttention(const ProductKernel& kernel) {
  const AttentionShape s{drawn(1, 2), drawn(1, 130), drawn(1, 3), drawn(1, 40)};
  const std::size_t width = static_cast<std::size_t>(s.heads) * s.headWidth, rows = static_cast<std::size_t>(s.images) * s.tokens;
  const auto qkv = values(rows * 3 * width), output = values(rows * width), statistics = values(rows * s.heads * ROW_STATISTICS), arriving = values(rows * width), gradient = values(rows * 3 * width);
  attend(kernel, s, qkv.get(), output.get(), statistics.get());
  attendGradient(kernel, s, qkv.get(), statistics.get(), arriving.get(), gradient.get());
  Doubles wanted(rows * width), wantedGradient(rows * 3 * width);
  const double scale = 1 / std::sqrt(static_cast<double>(s.headWidth));
  for (int image = 0; image < s.images; image += 1)
    for (int head = 0; head < s.heads; head += 1) {
      const auto place = [&](int part, int token, int feature) { return ((static_cast<std::size_t>(image) * s.tokens + token) * 3 + part) * width + head * s.headWidth + feature; };
      const auto result = [&](int token, int feature) { return (static_cast<std::size_t>(image) * s.tokens + token) * width + head * s.headWidth + feature; };
      for (int query = 0; query < s.tokens; query += 1) {
        Doubles weight(s.tokens), slope(s.tokens);
        double sum = 0, mean = 0;
        for (int key = 0; key < s.tokens; key += 1) {
          double product = 0;
          for (int feature = 0; feature < s.headWidth; feature += 1) {
            product += static_cast<double>(qkv[place(0, query, feature)]) * qkv[place(1, key, feature)];
            slope[key] += static_cast<double>(arriving[result(query, feature)]) * qkv[place(2, key, feature)];
          }
          sum += weight[key] = std::exp(product * scale);
        }
        for (int key = 0; key < s.tokens; key += 1) mean += (weight[key] /= sum) * slope[key];
        for (int key = 0; key < s.tokens; key += 1)
          for (int feature = 0; feature < s.headWidth; feature += 1) {
            const double change = weight[key] * (slope[key] - mean) * scale;
            wanted[result(query, feature)] += weight[key] * qkv[place(2, key, feature)];
            wantedGradient[place(0, query, feature)] += change * qkv[place(1, key, feature)];
            wantedGradient[place(1, key, feature)] += change * qkv[place(0, query, feature)];
            wantedGradient[place(2, key, feature)] += weight[key] * arriving[result(query, feature)];
          }
      }
    }
  holdAll("attention", s.tokens, s.headWidth, output.get(), wanted, 1e-5);
  holdAll("gradient of attention", s.tokens, s.headWidth, gradient.get(), wantedGradient, 1e-4);
}

void tryTransformer() {
  tryProduct(AVX2_PRODUCT, Factors::FLOAT32, "product by AVX2");
  tryAttention(AVX2_PRODUCT);
  if (__builtin_cpu_supports("avx512f")) {
    tryProduct(AVX512_PRODUCT, Factors::FLOAT32, "product by AVX-512");
    tryAttention(AVX512_PRODUCT);
  }
  if (__builtin_cpu_supports("avx512bf16")) tryProduct(BFLOAT16_PRODUCT, Factors::BFLOAT16, "product of bfloat16");
  tryLayerNorm();
  tryGelu();
}

}  // namespace

int main(int count, char** words) {
  if (count != 3) return 2;
  generator.seed(static_cast<unsigned>(std::atoi(words[1])));
  for (int round = 0; round < std::atoi(words[2]); round += 1) {
    tryConvolution();
    tryBatchNorm();
    tryTransformer();
  }
  std::puts("sound");
  return 0;
}
