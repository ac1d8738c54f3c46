/**
 * Makes the convolutions of winograd.h ops of TensorFlow, by its C API, when the library is loaded: `ParaffinConvolution`, `ParaffinConvolutionInputGradient` and
 * `ParaffinConvolutionFilterGradient`, float32 on a CPU with AVX2 and FMA. Elsewhere they stay unknown, and whoever asks runs TensorFlow's own op.
 */
#include <cstdint>
#include <mutex>

#include "tensorflow/c/ops.h"
#include "tensorflow-kernels.h"
#include "winograd.h"

namespace {

using paraffin::ConvolutionShape;

/** One run of an op: its inputs, and the first fault that was met. */
class Call {
 public:
  explicit Call(TF_OpKernelContext* context) : context_(context), status_(TF_NewStatus()) {
    for (int place = 0; place < 2 && isFine(); place += 1) TF_GetInput(context_, place, &inputs_[place], status_);
  }

  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  ~Call() {
    if (!isFine()) TF_OpKernelContext_Failure(context_, status_);
    for (TF_Tensor* input : inputs_) {
      if (input != nullptr) TF_DeleteTensor(input);
    }
    TF_DeleteStatus(status_);
  }

  bool isFine() const { return TF_GetCode(status_) == TF_OK; }

  void fail(const char* message) { TF_SetStatus(status_, TF_INVALID_ARGUMENT, message); }

  int rank(int place) const { return TF_NumDims(inputs_[place]); }
  std::int64_t side(int place, int axis) const { return TF_Dim(inputs_[place], axis); }
  const float* floats(int place) const { return static_cast<const float*>(TF_TensorData(inputs_[place])); }

  /** A new tensor for the result, held by TensorFlow; nullptr where there is no memory for it. */
  float* output(std::int64_t first, std::int64_t second, std::int64_t third, std::int64_t fourth) {
    const std::int64_t sides[4] = {first, second, third, fourth};
    TF_Tensor* const tensor = TF_AllocateOutput(context_, 0, TF_FLOAT, sides, 4, static_cast<std::size_t>(first * second * third * fourth) * sizeof(float), status_);
    if (!isFine() || tensor == nullptr) return nullptr;
    float* const floats = static_cast<float*>(TF_TensorData(tensor));
    TF_DeleteTensor(tensor);
    return floats;
  }

 private:
  TF_OpKernelContext* const context_;
  TF_Status* const status_;
  TF_Tensor* inputs_[2] = {nullptr, nullptr};
};

bool isMultiple(std::int64_t channels) { return channels > 0 && channels % paraffin::CHANNELS_MULTIPLE == 0; }

constexpr char WRONG_SHAPES[] = "Images must be [N, H, W, I] and filters [3, 3, I, O], with I and O multiples of 16.";

/** Shapes of images [N, H, W, C] at one place and a filter [3, 3, I, O] at another; `filterAxis` is the axis of the filter that C is. */
bool agree(Call& call, int imagesPlace, int filterPlace, int filterAxis) {
  const bool isRight = call.rank(imagesPlace) == 4 && call.rank(filterPlace) == 4 && call.side(filterPlace, 0) == 3 && call.side(filterPlace, 1) == 3 &&
                       isMultiple(call.side(filterPlace, 2)) && isMultiple(call.side(filterPlace, 3)) && call.side(imagesPlace, 3) == call.side(filterPlace, filterAxis);
  if (!isRight) call.fail(WRONG_SHAPES);
  return isRight;
}

ConvolutionShape shapeOf(const Call& call, int imagesPlace, std::int64_t inputChannels, std::int64_t outputChannels) {
  return {static_cast<int>(call.side(imagesPlace, 0)), static_cast<int>(call.side(imagesPlace, 1)), static_cast<int>(call.side(imagesPlace, 2)), static_cast<int>(inputChannels), static_cast<int>(outputChannels)};
}

/** The ops share their threads and their workspace. */
std::mutex oneAtATime;

/** images, filter to output. */
void runConvolution(void*, TF_OpKernelContext* context) {
  Call call(context);
  if (!call.isFine() || !agree(call, 0, 1, 2)) return;
  const ConvolutionShape shape = shapeOf(call, 0, call.side(1, 2), call.side(1, 3));
  float* const output = call.output(shape.count, shape.height, shape.width, shape.outputChannels);
  const std::lock_guard<std::mutex> lock(oneAtATime);
  if (output != nullptr) paraffin::convolve(shape, call.floats(0), call.floats(1), output);
}

/** filter, gradient of the output to gradient of the images. */
void runInputGradient(void*, TF_OpKernelContext* context) {
  Call call(context);
  if (!call.isFine() || !agree(call, 1, 0, 3)) return;
  const ConvolutionShape shape = shapeOf(call, 1, call.side(0, 2), call.side(0, 3));
  float* const gradient = call.output(shape.count, shape.height, shape.width, shape.inputChannels);
  const std::lock_guard<std::mutex> lock(oneAtATime);
  if (gradient != nullptr) paraffin::inputGradient(shape, call.floats(0), call.floats(1), gradient);
}

/** images, gradient of the output to gradient of the filter. */
void runFilterGradient(void*, TF_OpKernelContext* context) {
  Call call(context);
  if (!call.isFine()) return;
  bool isRight = call.rank(0) == 4 && call.rank(1) == 4 && isMultiple(call.side(0, 3)) && isMultiple(call.side(1, 3));
  for (int axis = 0; axis < 3 && isRight; axis += 1) isRight = call.side(0, axis) == call.side(1, axis);
  if (!isRight) return call.fail(WRONG_SHAPES);
  const ConvolutionShape shape = shapeOf(call, 0, call.side(0, 3), call.side(1, 3));
  float* const gradient = call.output(3, 3, shape.inputChannels, shape.outputChannels);
  const std::lock_guard<std::mutex> lock(oneAtATime);
  if (gradient != nullptr) paraffin::filterGradient(shape, call.floats(0), call.floats(1), gradient);
}

void leaveShapeUnknown(TF_ShapeInferenceContext*, TF_Status* status) { TF_SetStatus(status, TF_OK, ""); }

void addOp(const char* name, const char* first, const char* second, const char* result, void (*run)(void*, TF_OpKernelContext*)) {
  TF_Status* const status = TF_NewStatus();
  TF_OpDefinitionBuilder* const definition = TF_NewOpDefinitionBuilder(name);
  TF_OpDefinitionBuilderAddInput(definition, first);
  TF_OpDefinitionBuilderAddInput(definition, second);
  TF_OpDefinitionBuilderAddOutput(definition, result);
  TF_OpDefinitionBuilderSetShapeInferenceFunction(definition, leaveShapeUnknown);
  TF_RegisterOpDefinition(definition, status);
  if (TF_GetCode(status) == TF_OK) TF_RegisterKernelBuilder(name, TF_NewKernelBuilder(name, "CPU", nullptr, run, nullptr), status);
  TF_DeleteStatus(status);
}

const bool areAdded = [] {
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return false;
  addOp("ParaffinConvolution", "images: float", "filter: float", "output: float", runConvolution);
  addOp("ParaffinConvolutionInputGradient", "filter: float", "output_gradient: float", "gradient: float", runInputGradient);
  addOp("ParaffinConvolutionFilterGradient", "images: float", "output_gradient: float", "gradient: float", runFilterGradient);
  return true;
}();

}  // namespace
