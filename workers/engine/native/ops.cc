/**
 * Makes our convolutions ops of TensorFlow, by its C API, when the library is loaded: `ParaffinConvolution`, `ParaffinConvolutionInputGradient` and
 * `ParaffinConvolutionFilterGradient`, float32 on a CPU with AVX2 and FMA. Elsewhere they stay unknown, and whoever asks runs TensorFlow's own op.
 *
 * Windows of 3x3 at stride 1 go by tiles (winograd.h), all others by patches (patches.h).
 */
#include <cstdint>
#include <mutex>

#include "tensorflow/c/ops.h"
#include "patches.h"
#include "tensorflow-kernels.h"
#include "winograd.h"

namespace {

using paraffin::ConvolutionShape;
using paraffin::WindowedShape;

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

/** An op's attributes: whole numbers that TensorFlow keeps with the kernel. */
struct Settings {
  std::int64_t stride = 0;
  std::int64_t padding = 0;
  /** Of the images, for the gradient by them. */
  std::int64_t height = 0;
  std::int64_t width = 0;
  /** Of the filter, for the gradient by it. */
  std::int64_t side = 0;
};

void readSetting(TF_OpKernelConstruction* construction, const char* name, std::int64_t* value) {
  TF_Status* const status = TF_NewStatus();
  TF_OpKernelConstruction_GetAttrInt64(construction, name, value, status);
  if (TF_GetCode(status) != TF_OK) TF_OpKernelConstruction_Failure(construction, status);
  TF_DeleteStatus(status);
}

template <bool HAS_IMAGE_SIDES, bool HAS_FILTER_SIDE>
void* readSettings(TF_OpKernelConstruction* construction) {
  auto* const settings = new Settings;
  readSetting(construction, "stride", &settings->stride);
  readSetting(construction, "padding", &settings->padding);
  if (HAS_IMAGE_SIDES) {
    readSetting(construction, "height", &settings->height);
    readSetting(construction, "width", &settings->width);
  }
  if (HAS_FILTER_SIDE) readSetting(construction, "side", &settings->side);
  return settings;
}

void dropSettings(void* settings) { delete static_cast<Settings*>(settings); }

constexpr char WRONG_SHAPES[] =
    "Images must be [N, H, W, I] and filters [k, k, I, O] with O a multiple of 16, and I too for the gradient by images; the window must fit the padded image, and "
    "gradients be of the output's shape.";

bool isMultiple(std::int64_t channels) { return channels > 0 && channels % paraffin::CHANNELS_MULTIPLE == 0; }

/** Whether a convolution can be done at all. The numbers are still as TensorFlow has them. */
bool isSound(const Settings& settings, std::int64_t side, std::int64_t height, std::int64_t width, std::int64_t inputChannels, std::int64_t outputChannels) {
  return settings.stride > 0 && settings.padding >= 0 && side > 0 && inputChannels > 0 && isMultiple(outputChannels) && height + 2 * settings.padding >= side &&
         width + 2 * settings.padding >= side;
}

WindowedShape shapeOf(const Settings& settings, std::int64_t count, std::int64_t height, std::int64_t width, std::int64_t side, std::int64_t inputChannels, std::int64_t outputChannels) {
  const auto outputSide = [&](std::int64_t inputSide) { return static_cast<int>((inputSide + 2 * settings.padding - side) / settings.stride + 1); };
  return {static_cast<int>(count), static_cast<int>(height), static_cast<int>(width), static_cast<int>(inputChannels), static_cast<int>(outputChannels),
          outputSide(height), outputSide(width), static_cast<int>(side), static_cast<int>(settings.stride), static_cast<int>(settings.padding)};
}

bool isOutputOf(const Call& call, int place, const WindowedShape& shape) {
  return call.rank(place) == 4 && call.side(place, 0) == shape.count && call.side(place, 1) == shape.outputHeight && call.side(place, 2) == shape.outputWidth &&
         call.side(place, 3) == shape.outputChannels;
}

bool areTiles(const WindowedShape& shape) { return shape.side == 3 && shape.stride == 1 && shape.padding == 1 && isMultiple(shape.inputChannels); }

ConvolutionShape tiledShape(const WindowedShape& shape) { return {shape.count, shape.height, shape.width, shape.inputChannels, shape.outputChannels}; }

/** The ops share their threads and their workspace. */
std::mutex oneAtATime;

/** images, filter to output. */
void runConvolution(void* kernel, TF_OpKernelContext* context) {
  const Settings& settings = *static_cast<Settings*>(kernel);
  Call call(context);
  if (!call.isFine()) return;
  const bool isRight = call.rank(0) == 4 && call.rank(1) == 4 && call.side(1, 0) == call.side(1, 1) && call.side(0, 3) == call.side(1, 2) &&
                       isSound(settings, call.side(1, 0), call.side(0, 1), call.side(0, 2), call.side(1, 2), call.side(1, 3));
  if (!isRight) return call.fail(WRONG_SHAPES);
  const WindowedShape shape = shapeOf(settings, call.side(0, 0), call.side(0, 1), call.side(0, 2), call.side(1, 0), call.side(1, 2), call.side(1, 3));
  float* const output = call.output(shape.count, shape.outputHeight, shape.outputWidth, shape.outputChannels);
  if (output == nullptr) return;
  const std::lock_guard<std::mutex> lock(oneAtATime);
  if (areTiles(shape)) paraffin::convolve(tiledShape(shape), call.floats(0), call.floats(1), output);
  else paraffin::convolveByPatches(shape, call.floats(0), call.floats(1), output);
}

/** filter, gradient of the output to gradient of the images. */
void runInputGradient(void* kernel, TF_OpKernelContext* context) {
  const Settings& settings = *static_cast<Settings*>(kernel);
  Call call(context);
  if (!call.isFine()) return;
  const bool isRight = call.rank(0) == 4 && call.rank(1) == 4 && call.side(0, 0) == call.side(0, 1) && isMultiple(call.side(0, 2)) &&
                       isSound(settings, call.side(0, 0), settings.height, settings.width, call.side(0, 2), call.side(0, 3));
  if (!isRight) return call.fail(WRONG_SHAPES);
  const WindowedShape shape = shapeOf(settings, call.side(1, 0), settings.height, settings.width, call.side(0, 0), call.side(0, 2), call.side(0, 3));
  if (!isOutputOf(call, 1, shape)) return call.fail(WRONG_SHAPES);
  float* const gradient = call.output(shape.count, shape.height, shape.width, shape.inputChannels);
  if (gradient == nullptr) return;
  const std::lock_guard<std::mutex> lock(oneAtATime);
  if (areTiles(shape)) paraffin::inputGradient(tiledShape(shape), call.floats(0), call.floats(1), gradient);
  else paraffin::inputGradientByPatches(shape, call.floats(0), call.floats(1), gradient);
}

/** images, gradient of the output to gradient of the filter. */
void runFilterGradient(void* kernel, TF_OpKernelContext* context) {
  const Settings& settings = *static_cast<Settings*>(kernel);
  Call call(context);
  if (!call.isFine()) return;
  const bool isRight = call.rank(0) == 4 && call.rank(1) == 4 && isSound(settings, settings.side, call.side(0, 1), call.side(0, 2), call.side(0, 3), call.side(1, 3));
  if (!isRight) return call.fail(WRONG_SHAPES);
  const WindowedShape shape = shapeOf(settings, call.side(0, 0), call.side(0, 1), call.side(0, 2), settings.side, call.side(0, 3), call.side(1, 3));
  if (!isOutputOf(call, 1, shape)) return call.fail(WRONG_SHAPES);
  float* const gradient = call.output(shape.side, shape.side, shape.inputChannels, shape.outputChannels);
  if (gradient == nullptr) return;
  const std::lock_guard<std::mutex> lock(oneAtATime);
  if (areTiles(shape)) paraffin::filterGradient(tiledShape(shape), call.floats(0), call.floats(1), gradient);
  else paraffin::filterGradientByPatches(shape, call.floats(0), call.floats(1), gradient);
}

void leaveShapeUnknown(TF_ShapeInferenceContext*, TF_Status* status) { TF_SetStatus(status, TF_OK, ""); }

struct Op {
  const char* name;
  const char* first;
  const char* second;
  const char* result;
  /** Those beside stride and padding; each a whole number. */
  const char* settings[2];
  void* (*create)(TF_OpKernelConstruction*);
  void (*run)(void*, TF_OpKernelContext*);
};

constexpr Op OPS[] = {
    {"ParaffinConvolution", "images: float", "filter: float", "output: float", {nullptr, nullptr}, readSettings<false, false>, runConvolution},
    {"ParaffinConvolutionInputGradient", "filter: float", "output_gradient: float", "gradient: float", {"height: int", "width: int"}, readSettings<true, false>, runInputGradient},
    {"ParaffinConvolutionFilterGradient", "images: float", "output_gradient: float", "gradient: float", {"side: int", nullptr}, readSettings<false, true>, runFilterGradient},
};

void add(const Op& op) {
  TF_Status* const status = TF_NewStatus();
  TF_OpDefinitionBuilder* const definition = TF_NewOpDefinitionBuilder(op.name);
  TF_OpDefinitionBuilderAddInput(definition, op.first);
  TF_OpDefinitionBuilderAddInput(definition, op.second);
  TF_OpDefinitionBuilderAddOutput(definition, op.result);
  TF_OpDefinitionBuilderAddAttr(definition, "stride: int");
  TF_OpDefinitionBuilderAddAttr(definition, "padding: int");
  for (const char* setting : op.settings) {
    if (setting != nullptr) TF_OpDefinitionBuilderAddAttr(definition, setting);
  }
  TF_OpDefinitionBuilderSetShapeInferenceFunction(definition, leaveShapeUnknown);
  TF_RegisterOpDefinition(definition, status);
  if (TF_GetCode(status) == TF_OK) TF_RegisterKernelBuilder(op.name, TF_NewKernelBuilder(op.name, "CPU", op.create, op.run, dropSettings), status);
  TF_DeleteStatus(status);
}

const bool areAdded = [] {
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return false;
  for (const Op& op : OPS) add(op);
  return true;
}();

}  // namespace
