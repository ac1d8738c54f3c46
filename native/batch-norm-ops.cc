/**
 * Registers our batch norm as ops of TensorFlow when the library is loaded: `ParaffinBatchNorm` and
 * `ParaffinBatchNormGradient`, float32 on a CPU with AVX2 and FMA. On other processors they are not registered, and the
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
  /** The weight of the batch's statistics in each update of the running ones; the gradient does not have it. */
  float momentum;
};

template <bool HAS_MOMENTUM>
void* readSettings(TF_OpKernelConstruction* construction) {
  const auto readFloat = [construction](const char* name) { return attribute<float>(construction, name, TF_OpKernelConstruction_GetAttrFloat); };
  const bool isRectified = attribute<unsigned char>(construction, "is_rectified", TF_OpKernelConstruction_GetAttrBool) != 0;
  return new Settings{isRectified, readFloat("epsilon"), HAS_MOMENTUM ? readFloat("momentum") : 0.0F};
}

void dropSettings(void* settings) { delete static_cast<Settings*>(settings); }

constexpr char WRONG_SHAPES[] = "Images must be [N, H, W, C] with at least one pixel and C a multiple of 8, as must be what belongs to them; all else is [C].";

/** Whether one input holds images and the others hold a number for each of their channels. */
bool areSound(const Call& call, int imagesPlace, std::initializer_list<int> vectorPlaces) {
  if (call.rank(imagesPlace) != 4) return false;
  const std::int64_t channels = call.side(imagesPlace, 3);
  // The kernels count rows and channels by int.
  const double pixels = static_cast<double>(call.side(imagesPlace, 0)) * call.side(imagesPlace, 1) * call.side(imagesPlace, 2);
  return pixels > 0 && pixels <= INT_MAX && channels > 0 && channels <= INT_MAX && channels % CHANNELS_AT_ONCE == 0 &&
         std::all_of(vectorPlaces.begin(), vectorPlaces.end(), [&](int place) { return call.rank(place) == 1 && call.side(place, 0) == channels; });
}

BatchNormShape shapeOf(const Call& call, int imagesPlace, const Settings& settings) {
  return {static_cast<int>(call.side(imagesPlace, 0) * call.side(imagesPlace, 1) * call.side(imagesPlace, 2)), static_cast<int>(call.side(imagesPlace, 3)), settings.isRectified};
}

/**
 * images, scale, offset, running mean and variance to output, next running mean and variance, mean and variance of the
 * batch.
 */
void runBatchNorm(void* kernel, TF_OpKernelContext* context) {
  const Settings& settings = *static_cast<Settings*>(kernel);
  Call call(context, 5);
  if (!call.isFine()) return;
  if (!areSound(call, 0, {1, 2, 3, 4})) return call.fail(WRONG_SHAPES);
  const BatchNormShape shape = shapeOf(call, 0, settings);
  float* const output = call.output(0, {call.side(0, 0), call.side(0, 1), call.side(0, 2), call.side(0, 3)});
  float* const nextMean = call.output(1, {shape.channels});
  float* const nextVariance = call.output(2, {shape.channels});
  float* const mean = call.output(3, {shape.channels});
  float* const variance = call.output(4, {shape.channels});
  if (!call.isFine()) return;
  const std::lock_guard<std::mutex> lock(oneAtATime);
  normalise(shape, settings.epsilon, call.floats(0), call.floats(1), call.floats(2), output, mean, variance);
  // Running variances are unbiased, as PyTorch's are.
  const float unbiased = static_cast<float>(shape.rows) / static_cast<float>(std::max(1, shape.rows - 1));
  for (int channel = 0; channel < shape.channels; channel += 1) {
    nextMean[channel] = (1 - settings.momentum) * call.floats(3)[channel] + settings.momentum * mean[channel];
    nextVariance[channel] = (1 - settings.momentum) * call.floats(4)[channel] + settings.momentum * unbiased * variance[channel];
  }
}

/** gradient of the output, images, output, scale, mean and variance to the gradients of images, scale and offset. */
void runGradient(void* kernel, TF_OpKernelContext* context) {
  const Settings& settings = *static_cast<Settings*>(kernel);
  Call call(context, 6);
  if (!call.isFine()) return;
  if (!areSound(call, 1, {3, 4, 5}) || !call.haveOneShape(1, 0) || !call.haveOneShape(1, 2)) return call.fail(WRONG_SHAPES);
  const BatchNormShape shape = shapeOf(call, 1, settings);
  float* const imagesGradient = call.output(0, {call.side(1, 0), call.side(1, 1), call.side(1, 2), call.side(1, 3)});
  float* const scaleGradient = call.output(1, {shape.channels});
  float* const offsetGradient = call.output(2, {shape.channels});
  if (!call.isFine()) return;
  const std::lock_guard<std::mutex> lock(oneAtATime);
  normaliseGradient(shape, settings.epsilon, call.floats(0), call.floats(1), call.floats(2), call.floats(3), call.floats(4), call.floats(5), imagesGradient, scaleGradient, offsetGradient);
}

const bool areAdded = [] {
  add({"ParaffinBatchNorm",
       {"images: float", "scale: float", "offset: float", "running_mean: float", "running_variance: float"},
       {"output: float", "next_running_mean: float", "next_running_variance: float", "mean: float", "variance: float"},
       {"is_rectified: bool", "epsilon: float", "momentum: float"}, readSettings<true>, runBatchNorm, dropSettings});
  add({"ParaffinBatchNormGradient",
       {"output_gradient: float", "images: float", "output: float", "scale: float", "mean: float", "variance: float"},
       {"images_gradient: float", "scale_gradient: float", "offset_gradient: float"},
       {"is_rectified: bool", "epsilon: float"}, readSettings<false>, runGradient, dropSettings});
  return true;
}();

}  // namespace
}  // namespace paraffin
