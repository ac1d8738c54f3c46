/**
 * Registers our batch norm as ops of TensorFlow when the library is loaded: `ParaffinBatchNorm` and
 * `ParaffinBatchNormGradient`, float32 on a CPU with AVX2, FMA and F16C. On other processors they are not registered, and the
 * engine uses TensorFlow's own op.
 */
#include <algorithm>
#include <climits>
#include <cstdint>
#include <mutex>

#include "batch-norm.h"
#include "op.h"

namespace paraffin {
namespace {

constexpr int CHANNELS_AT_ONCE = 8;

struct Settings {
  bool isRectified;
  float epsilon;
  /** The weight of the batch's statistics in each update of the running ones; 0 for the gradient, which has none. */
  float momentum;
};

template <bool HAS_MOMENTUM>
void* readSettings(TF_OpKernelConstruction* construction) {
  const auto readFloat = [construction](const char* name) { return attribute<float>(construction, name, TF_OpKernelConstruction_GetAttrFloat); };
  const bool isRectified = attribute<unsigned char>(construction, "is_rectified", TF_OpKernelConstruction_GetAttrBool) != 0;
  return new Settings{isRectified, readFloat("epsilon"), HAS_MOMENTUM ? readFloat("momentum") : 0.0F};
}

void deleteSettings(void* settings) { delete static_cast<Settings*>(settings); }

constexpr char WRONG_SHAPES[] = "Images must be [N, H, W, C] with at least one pixel and C a multiple of 8, their output and its gradient must have the same shape, and all other inputs must be [C].";

/** Whether one input holds images and the others hold a number for each of their channels. */
bool areValidShapes(const Call& call, int imagesInput, std::initializer_list<int> vectorInputs) {
  if (call.rank(imagesInput) != 4) return false;
  const std::int64_t channels = call.side(imagesInput, 3);
  // The kernels count rows and channels by int.
  const double pixels = static_cast<double>(call.side(imagesInput, 0)) * call.side(imagesInput, 1) * call.side(imagesInput, 2);
  return pixels > 0 && pixels <= INT_MAX && channels > 0 && channels <= INT_MAX && channels % CHANNELS_AT_ONCE == 0 &&
         std::all_of(vectorInputs.begin(), vectorInputs.end(), [&](int place) { return call.rank(place) == 1 && call.side(place, 0) == channels; });
}

BatchNormShape shapeOf(const Call& call, int imagesInput, const Settings& settings) {
  return {static_cast<int>(call.side(imagesInput, 0) * call.side(imagesInput, 1) * call.side(imagesInput, 2)), static_cast<int>(call.side(imagesInput, 3)), settings.isRectified};
}

/**
 * Computes the output, the next running mean and variance, and the mean and variance of the batch from images, scale,
 * offset, and running mean and variance.
 */
void runBatchNorm(void* kernel, TF_OpKernelContext* context) {
  const Settings& settings = *static_cast<Settings*>(kernel);
  Call call(context, 5);
  if (!call.isOk()) return;
  if (!areValidShapes(call, 0, {1, 2, 3, 4})) return call.fail(WRONG_SHAPES);
  const BatchNormShape shape = shapeOf(call, 0, settings);
  float* const output = call.output(0, {call.side(0, 0), call.side(0, 1), call.side(0, 2), call.side(0, 3)});
  float* const nextMean = call.output(1, {shape.channels});
  float* const nextVariance = call.output(2, {shape.channels});
  float* const mean = call.output(3, {shape.channels});
  float* const variance = call.output(4, {shape.channels});
  if (!call.isOk()) return;
  const std::lock_guard<std::mutex> lock(opMutex);
  normalise(shape, settings.epsilon, call.floats(0), call.floats(1), call.floats(2), output, mean, variance);
  // Running variances are unbiased, as PyTorch's are.
  const float unbiased = static_cast<float>(shape.rows) / static_cast<float>(std::max(1, shape.rows - 1));
  for (int channel = 0; channel < shape.channels; channel += 1) {
    nextMean[channel] = (1 - settings.momentum) * call.floats(3)[channel] + settings.momentum * mean[channel];
    nextVariance[channel] = (1 - settings.momentum) * call.floats(4)[channel] + settings.momentum * unbiased * variance[channel];
  }
}

/**
 * Computes the gradients of images, scale and offset from the gradient of the output, images, output, scale, mean and
 * variance.
 */
void runGradient(void* kernel, TF_OpKernelContext* context) {
  const Settings& settings = *static_cast<Settings*>(kernel);
  Call call(context, 6);
  if (!call.isOk()) return;
  if (!areValidShapes(call, 1, {3, 4, 5}) || !call.haveSameShape(1, 0) || !call.haveSameShape(1, 2)) return call.fail(WRONG_SHAPES);
  const BatchNormShape shape = shapeOf(call, 1, settings);
  float* const imagesGradient = call.output(0, {call.side(1, 0), call.side(1, 1), call.side(1, 2), call.side(1, 3)});
  float* const scaleGradient = call.output(1, {shape.channels});
  float* const offsetGradient = call.output(2, {shape.channels});
  if (!call.isOk()) return;
  const std::lock_guard<std::mutex> lock(opMutex);
  normaliseGradient(shape, settings.epsilon, call.floats(0), call.floats(1), call.floats(2), call.floats(3), call.floats(4), call.floats(5), imagesGradient, scaleGradient, offsetGradient);
}

const bool areRegistered = [] {
  registerOp({"ParaffinBatchNorm",
       {"images: float", "scale: float", "offset: float", "running_mean: float", "running_variance: float"},
       {"output: float", "next_running_mean: float", "next_running_variance: float", "mean: float", "variance: float"},
       {"is_rectified: bool", "epsilon: float", "momentum: float"}, readSettings<true>, runBatchNorm, deleteSettings});
  registerOp({"ParaffinBatchNormGradient",
       {"output_gradient: float", "images: float", "output: float", "scale: float", "mean: float", "variance: float"},
       {"images_gradient: float", "scale_gradient: float", "offset_gradient: float"},
       {"is_rectified: bool", "epsilon: float"}, readSettings<false>, runGradient, deleteSettings});
  return true;
}();

}  // namespace
}  // namespace paraffin
