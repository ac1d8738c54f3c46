/**
 * Registers our convolutions as ops of TensorFlow when the library is loaded: `ParaffinConvolution`,
 * `ParaffinConvolutionInputGradient` and `ParaffinConvolutionFilterGradient`, and for inference
 * `ParaffinNormalisedConvolution`, float32 on a CPU with AVX2, FMA and F16C. On other processors they are not registered, and
 * the engine uses TensorFlow's own op.
 *
 * Windows of 3x3 at stride 1 are computed by tiles (winograd.h), all others by patches (patches.h).
 */
#include <climits>
#include <cmath>
#include <cstdint>
#include <mutex>
#include <optional>
#include <vector>

#include "epilogue.h"
#include "op.h"
#include "patches.h"
#include "winograd.h"

namespace paraffin {
namespace {

/** An op's attributes, which TensorFlow keeps with the kernel. */
struct Settings {
  std::int64_t stride = 0;
  std::int64_t padding = 0;
  /** Size of the images, for the gradient with respect to them. */
  std::int64_t height = 0;
  std::int64_t width = 0;
  /** Size of the filter, for the gradient with respect to it. */
  std::int64_t side = 0;
  /** For inference. */
  bool isRectified = false;
  float epsilon = 0;
};

template <bool HAS_IMAGE_SIDES, bool HAS_FILTER_SIDE, bool HAS_EPILOGUE>
void* readSettings(TF_OpKernelConstruction* construction) {
  const auto read = [construction](const char* name) { return attribute<std::int64_t>(construction, name, TF_OpKernelConstruction_GetAttrInt64); };
  auto* const settings = new Settings;
  settings->stride = read("stride");
  settings->padding = read("padding");
  if (HAS_IMAGE_SIDES) {
    settings->height = read("height");
    settings->width = read("width");
  }
  if (HAS_FILTER_SIDE) settings->side = read("side");
  if (HAS_EPILOGUE) {
    settings->isRectified = attribute<unsigned char>(construction, "is_rectified", TF_OpKernelConstruction_GetAttrBool) != 0;
    settings->epsilon = attribute<float>(construction, "epsilon", TF_OpKernelConstruction_GetAttrFloat);
  }
  return settings;
}

void deleteSettings(void* settings) { delete static_cast<Settings*>(settings); }

constexpr char WRONG_SHAPES[] =
    "Images must be [N, H, W, I] and filters [k, k, I, O] with O a multiple of 16, and I too for the gradient with respect to the images; the window must fit the padded image, and "
    "gradients must have the output's shape.";

constexpr int CHANNELS_MULTIPLE = 16;

bool isMultiple(std::int64_t channels) { return channels > 0 && channels % CHANNELS_MULTIPLE == 0; }

/** Limit of every side, channel count and attribute, so that sums and products of two of them cannot overflow. */
constexpr std::int64_t SIDE_MAX = 1 << 20;

/** Whether the shapes describe a valid convolution. The numbers are still TensorFlow's 64-bit ones. */
bool areValidSizes(const Settings& settings, std::int64_t side, std::int64_t height, std::int64_t width, std::int64_t inputChannels, std::int64_t outputChannels) {
  for (const std::int64_t number : {settings.stride, settings.padding, side, height, width, inputChannels, outputChannels})
    if (number > SIDE_MAX) return false;
  return settings.stride > 0 && settings.padding >= 0 && side > 0 && inputChannels > 0 && isMultiple(outputChannels) && height + 2 * settings.padding >= side &&
         width + 2 * settings.padding >= side;
}

ConvolutionShape shapeOf(const Settings& settings, std::int64_t count, std::int64_t height, std::int64_t width, std::int64_t side, std::int64_t inputChannels, std::int64_t outputChannels) {
  const auto outputSide = [&](std::int64_t inputSide) { return static_cast<int>((inputSide + 2 * settings.padding - side) / settings.stride + 1); };
  return {static_cast<int>(count), static_cast<int>(height), static_cast<int>(width), static_cast<int>(inputChannels), static_cast<int>(outputChannels),
          outputSide(height), outputSide(width), static_cast<int>(side), static_cast<int>(settings.stride), static_cast<int>(settings.padding)};
}

/** Whether the number of windows and of values in one fits an int, as the kernels need. */
bool isCountable(std::int64_t count, const ConvolutionShape& shape) {
  const double windows = static_cast<double>(count) * shape.outputHeight * shape.outputWidth;
  const double values = static_cast<double>(shape.side) * shape.side * shape.inputChannels;
  return windows <= INT_MAX && values <= INT_MAX;
}

bool isOutputOf(const Call& call, int place, const ConvolutionShape& shape) {
  return call.rank(place) == 4 && call.side(place, 0) == shape.count && call.side(place, 1) == shape.outputHeight && call.side(place, 2) == shape.outputWidth &&
         call.side(place, 3) == shape.outputChannels;
}

bool usesWinograd(const ConvolutionShape& shape) { return shape.side == 3 && shape.stride == 1 && shape.padding == 1 && isMultiple(shape.inputChannels); }

/** The convolution of the first two inputs, images and filter; nullopt if their shapes do not match. */
std::optional<ConvolutionShape> convolutionOf(const Settings& settings, const Call& call) {
  const bool isValid = call.rank(0) == 4 && call.rank(1) == 4 && call.side(1, 0) == call.side(1, 1) && call.side(0, 3) == call.side(1, 2) &&
                       areValidSizes(settings, call.side(1, 0), call.side(0, 1), call.side(0, 2), call.side(1, 2), call.side(1, 3));
  if (!isValid) return std::nullopt;
  const ConvolutionShape shape = shapeOf(settings, call.side(0, 0), call.side(0, 1), call.side(0, 2), call.side(1, 0), call.side(1, 2), call.side(1, 3));
  return isCountable(call.side(0, 0), shape) ? std::optional(shape) : std::nullopt;
}

void convolve(const ConvolutionShape& shape, Call& call, const Epilogue* epilogue) {
  float* const output = call.output(0, {shape.count, shape.outputHeight, shape.outputWidth, shape.outputChannels});
  if (output == nullptr) return;
  const std::lock_guard<std::mutex> lock(opMutex);
  if (usesWinograd(shape)) convolveByTiles(shape, call.floats(0), call.floats(1), epilogue, output);
  else convolveByPatches(shape, call.floats(0), call.floats(1), epilogue, output);
}

/** Computes the output from images and filter. */
void runConvolution(void* kernel, TF_OpKernelContext* context) {
  Call call(context, 2);
  if (!call.isOk()) return;
  const std::optional<ConvolutionShape> shape = convolutionOf(*static_cast<Settings*>(kernel), call);
  if (!shape) return call.fail(WRONG_SHAPES);
  convolve(*shape, call, nullptr);
}

constexpr char WRONG_EPILOGUE[] = "Scale, offset, mean and variance must be [O]; the addend must have the output's shape or be an empty vector.";

/**
 * Computes the output from images, filter, scale, offset, running mean and variance, and addend: the convolution
 * normalised by the running statistics, plus the addend, then a ReLU if `is_rectified` is set.
 */
void runNormalisedConvolution(void* kernel, TF_OpKernelContext* context) {
  const Settings& settings = *static_cast<Settings*>(kernel);
  Call call(context, 7);
  if (!call.isOk()) return;
  const std::optional<ConvolutionShape> shape = convolutionOf(settings, call);
  if (!shape) return call.fail(WRONG_SHAPES);
  for (const int place : {2, 3, 4, 5})
    if (call.rank(place) != 1 || call.side(place, 0) != shape->outputChannels) return call.fail(WRONG_EPILOGUE);
  const bool hasAddend = call.rank(6) != 1 || call.side(6, 0) != 0;
  if (hasAddend && !isOutputOf(call, 6, *shape)) return call.fail(WRONG_EPILOGUE);
  std::vector<float> scale(shape->outputChannels);
  std::vector<float> offset(shape->outputChannels);
  for (int channel = 0; channel < shape->outputChannels; channel += 1) {
    const double factor = call.floats(2)[channel] / std::sqrt(static_cast<double>(call.floats(5)[channel]) + settings.epsilon);
    scale[channel] = static_cast<float>(factor);
    offset[channel] = static_cast<float>(call.floats(3)[channel] - call.floats(4)[channel] * factor);
  }
  const Epilogue epilogue{scale.data(), offset.data(), hasAddend ? call.floats(6) : nullptr, settings.isRectified};
  convolve(*shape, call, &epilogue);
}

/** Computes the gradient of the images from the filter and the gradient of the output. */
void runInputGradient(void* kernel, TF_OpKernelContext* context) {
  const Settings& settings = *static_cast<Settings*>(kernel);
  Call call(context, 2);
  if (!call.isOk()) return;
  const bool isValid = call.rank(0) == 4 && call.rank(1) == 4 && call.side(0, 0) == call.side(0, 1) && isMultiple(call.side(0, 2)) &&
                       areValidSizes(settings, call.side(0, 0), settings.height, settings.width, call.side(0, 2), call.side(0, 3));
  if (!isValid) return call.fail(WRONG_SHAPES);
  const ConvolutionShape shape = shapeOf(settings, call.side(1, 0), settings.height, settings.width, call.side(0, 0), call.side(0, 2), call.side(0, 3));
  if (!isOutputOf(call, 1, shape) || !isCountable(call.side(1, 0), shape)) return call.fail(WRONG_SHAPES);
  float* const gradient = call.output(0, {shape.count, shape.height, shape.width, shape.inputChannels});
  if (gradient == nullptr) return;
  const std::lock_guard<std::mutex> lock(opMutex);
  if (usesWinograd(shape)) inputGradientByTiles(shape, call.floats(0), call.floats(1), gradient);
  else inputGradientByPatches(shape, call.floats(0), call.floats(1), gradient);
}

/** Computes the gradient of the filter from the images and the gradient of the output. */
void runFilterGradient(void* kernel, TF_OpKernelContext* context) {
  const Settings& settings = *static_cast<Settings*>(kernel);
  Call call(context, 2);
  if (!call.isOk()) return;
  const bool isValid = call.rank(0) == 4 && call.rank(1) == 4 && areValidSizes(settings, settings.side, call.side(0, 1), call.side(0, 2), call.side(0, 3), call.side(1, 3));
  if (!isValid) return call.fail(WRONG_SHAPES);
  const ConvolutionShape shape = shapeOf(settings, call.side(0, 0), call.side(0, 1), call.side(0, 2), settings.side, call.side(0, 3), call.side(1, 3));
  if (!isOutputOf(call, 1, shape) || !isCountable(call.side(0, 0), shape)) return call.fail(WRONG_SHAPES);
  float* const gradient = call.output(0, {shape.side, shape.side, shape.inputChannels, shape.outputChannels});
  if (gradient == nullptr) return;
  const std::lock_guard<std::mutex> lock(opMutex);
  if (usesWinograd(shape)) filterGradientByTiles(shape, call.floats(0), call.floats(1), gradient);
  else filterGradientByPatches(shape, call.floats(0), call.floats(1), gradient);
}

const bool areRegistered = [] {
  registerOp({"ParaffinConvolution", {"images: float", "filter: float"}, {"output: float"}, {"stride: int", "padding: int"}, readSettings<false, false, false>, runConvolution, deleteSettings});
  registerOp({"ParaffinNormalisedConvolution",
       {"images: float", "filter: float", "scale: float", "offset: float", "running_mean: float", "running_variance: float", "addend: float"},
       {"output: float"}, {"stride: int", "padding: int", "is_rectified: bool", "epsilon: float"}, readSettings<false, false, true>, runNormalisedConvolution, deleteSettings});
  registerOp({"ParaffinConvolutionInputGradient", {"filter: float", "output_gradient: float"}, {"gradient: float"}, {"stride: int", "padding: int", "height: int", "width: int"},
       readSettings<true, false, false>, runInputGradient, deleteSettings});
  registerOp({"ParaffinConvolutionFilterGradient", {"images: float", "output_gradient: float"}, {"gradient: float"}, {"stride: int", "padding: int", "side: int"},
       readSettings<false, true, false>, runFilterGradient, deleteSettings});
  return true;
}();

}  // namespace
}  // namespace paraffin
