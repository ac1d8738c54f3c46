/**
 * Registers the layers of transformers as ops of TensorFlow when the library is loaded: `ParaffinLinear`,
 * `ParaffinLayerNorm`, `ParaffinGelu`, `ParaffinAttention`, and the gradient of each, float32 on a CPU with AVX2, FMA and F16C.
 * On other processors they are not registered, and the engine uses TensorFlow's own ops.
 */
#include <climits>
#include <cstdint>
#include <mutex>

#include "attention.h"
#include "gelu.h"
#include "layer-norm.h"
#include "matrix-product.h"
#include "op.h"

namespace paraffin {
namespace {

void* noSettings(TF_OpKernelConstruction*) { return nullptr; }
void keepNothing(void*) {}

/** Whether the input is [rows, columns] with at least one column, and of sides that the kernels can count by int. */
bool isMatrix(const Call& call, int place) {
  return call.rank(place) == 2 && call.side(place, 0) <= INT_MAX / 2 && call.side(place, 1) > 0 && call.side(place, 1) <= INT_MAX / 2;
}

bool isVector(const Call& call, int place, std::int64_t length) { return call.rank(place) == 1 && call.side(place, 0) == length; }

bool isColumn(const Call& call, int place, std::int64_t length) { return call.rank(place) == 2 && call.side(place, 0) == length && call.side(place, 1) == 1; }

int intSide(const Call& call, int place, int axis) { return static_cast<int>(call.side(place, axis)); }

struct LinearSettings {
  Factors factors;
  Stored weight;
};

Factors factorsOf(TF_OpKernelConstruction* construction) {
  const bool isRounded = attribute<unsigned char>(construction, "in_bfloat16", TF_OpKernelConstruction_GetAttrBool) != 0;
  return isRounded ? Factors::BFLOAT16 : Factors::FLOAT32;
}

Stored storedAs(TF_DataType dtype) {
  switch (dtype) {
    case TF_BFLOAT16: return Stored::BFLOAT16;
    case TF_HALF: return Stored::FLOAT16;
    default: return Stored::FLOAT32;
  }
}

/** The weights of a gradient are float32, because they are trained. */
void* readLinearGradient(TF_OpKernelConstruction* construction) { return new LinearSettings{factorsOf(construction), Stored::FLOAT32}; }

void* readLinear(TF_OpKernelConstruction* construction) {
  return new LinearSettings{factorsOf(construction), storedAs(attribute<TF_DataType>(construction, "T", TF_OpKernelConstruction_GetAttrType))};
}

void deleteLinear(void* settings) { delete static_cast<LinearSettings*>(settings); }

constexpr char WRONG_LINEAR[] = "The input must be [R, I], the weight [O, I], the offset [O] or an empty vector, and the gradient of the output [R, O].";
constexpr char NO_BFLOAT16[] = "This op has no bfloat16 for this processor.";

/** Computes input weight^T + offset from input, weight and offset: the weight in the dtype of its file, the rest in float32. */
void runLinear(void* kernel, TF_OpKernelContext* context) {
  const LinearSettings& settings = *static_cast<LinearSettings*>(kernel);
  Call call(context, 3);
  if (!call.isOk()) return;
  if (!isMatrix(call, 0) || !isMatrix(call, 1) || call.side(0, 1) != call.side(1, 1)) return call.fail(WRONG_LINEAR);
  const bool hasOffset = !isVector(call, 2, 0);
  if (hasOffset && !isVector(call, 2, call.side(1, 0))) return call.fail(WRONG_LINEAR);
  const ProductKernel* const product = productKernel(settings.factors);
  if (product == nullptr) return call.fail(NO_BFLOAT16);
  const ProductShape shape{intSide(call, 0, 0), intSide(call, 0, 1), intSide(call, 1, 0)};
  float* const output = call.output(0, {shape.rows, shape.columns});
  if (output == nullptr) return;
  const std::size_t step = shape.depth;
  const std::lock_guard<std::mutex> lock(opMutex);
  multiplyMatrices(*product, settings.factors, shape, {call.floats(0), step, false}, {call.values(1), step, true, settings.weight}, hasOffset ? call.floats(2) : nullptr, output);
}

/** Computes the gradients of input, weight and offset from input, weight and the gradient of the output. */
void runLinearGradient(void* kernel, TF_OpKernelContext* context) {
  const Factors factors = static_cast<LinearSettings*>(kernel)->factors;
  Call call(context, 3);
  if (!call.isOk()) return;
  const bool isValid = isMatrix(call, 0) && isMatrix(call, 1) && isMatrix(call, 2) && call.side(0, 1) == call.side(1, 1) && call.side(2, 0) == call.side(0, 0) && call.side(2, 1) == call.side(1, 0);
  if (!isValid) return call.fail(WRONG_LINEAR);
  const ProductKernel* const product = productKernel(factors);
  if (product == nullptr) return call.fail(NO_BFLOAT16);
  const int rows = intSide(call, 0, 0);
  const int inputs = intSide(call, 0, 1);
  const int outputs = intSide(call, 1, 0);
  float* const inputGradient = call.output(0, {rows, inputs});
  float* const weightGradient = call.output(1, {outputs, inputs});
  float* const offsetGradient = call.output(2, {outputs});
  if (!call.isOk()) return;
  const std::size_t inputStep = inputs;
  const std::size_t outputStep = outputs;
  const std::lock_guard<std::mutex> lock(opMutex);
  multiplyMatrices(*product, factors, {rows, outputs, inputs}, {call.floats(2), outputStep, false}, {call.floats(1), inputStep, false}, nullptr, inputGradient);
  multiplyMatrices(*product, factors, {outputs, rows, inputs}, {call.floats(2), outputStep, true}, {call.floats(0), inputStep, false}, nullptr, weightGradient);
  sumRows(call.floats(2), rows, outputs, offsetGradient);
}

struct NormSettings {
  float epsilon;
};

void* readNorm(TF_OpKernelConstruction* construction) { return new NormSettings{attribute<float>(construction, "epsilon", TF_OpKernelConstruction_GetAttrFloat)}; }

void deleteNorm(void* settings) { delete static_cast<NormSettings*>(settings); }

constexpr char WRONG_NORM[] = "Values and their gradient must be [R, W], scale and offset [W], mean and inverse standard deviation [R, 1].";

/** Computes the output, the mean and the inverse standard deviation of each row from values, scale and offset. */
void runLayerNorm(void* kernel, TF_OpKernelContext* context) {
  Call call(context, 3);
  if (!call.isOk()) return;
  if (!isMatrix(call, 0) || !isVector(call, 1, call.side(0, 1)) || !isVector(call, 2, call.side(0, 1))) return call.fail(WRONG_NORM);
  const LayerNormShape shape{intSide(call, 0, 0), intSide(call, 0, 1)};
  float* const output = call.output(0, {shape.rows, shape.columns});
  float* const mean = call.output(1, {shape.rows, 1});
  float* const inverseStd = call.output(2, {shape.rows, 1});
  if (!call.isOk()) return;
  const std::lock_guard<std::mutex> lock(opMutex);
  normaliseRows(shape, static_cast<NormSettings*>(kernel)->epsilon, call.floats(0), call.floats(1), call.floats(2), output, mean, inverseStd);
}

/** Computes the gradients of values, scale and offset from the gradient of the output, values, scale, mean and inverse standard deviation. */
void runLayerNormGradient(void*, TF_OpKernelContext* context) {
  Call call(context, 5);
  if (!call.isOk()) return;
  const bool isValid = isMatrix(call, 0) && call.haveSameShape(0, 1) && isVector(call, 2, call.side(0, 1)) && isColumn(call, 3, call.side(0, 0)) && isColumn(call, 4, call.side(0, 0));
  if (!isValid) return call.fail(WRONG_NORM);
  const LayerNormShape shape{intSide(call, 0, 0), intSide(call, 0, 1)};
  float* const valuesGradient = call.output(0, {shape.rows, shape.columns});
  float* const scaleGradient = call.output(1, {shape.columns});
  float* const offsetGradient = call.output(2, {shape.columns});
  if (!call.isOk()) return;
  const std::lock_guard<std::mutex> lock(opMutex);
  normaliseRowsGradient(shape, call.floats(0), call.floats(1), call.floats(2), call.floats(3), call.floats(4), valuesGradient, scaleGradient, offsetGradient);
}

constexpr char WRONG_GELU[] = "Values must be [R, W], and the gradient of the output too.";

void runGelu(void*, TF_OpKernelContext* context) {
  Call call(context, 1);
  if (!call.isOk()) return;
  if (!isMatrix(call, 0)) return call.fail(WRONG_GELU);
  float* const output = call.output(0, {call.side(0, 0), call.side(0, 1)});
  if (output == nullptr) return;
  const std::lock_guard<std::mutex> lock(opMutex);
  applyGelu(static_cast<std::size_t>(call.side(0, 0)) * call.side(0, 1), call.floats(0), output);
}

/** Computes the gradient of the values from values and the gradient of the output. */
void runGeluGradient(void*, TF_OpKernelContext* context) {
  Call call(context, 2);
  if (!call.isOk()) return;
  if (!isMatrix(call, 0) || !call.haveSameShape(0, 1)) return call.fail(WRONG_GELU);
  float* const gradient = call.output(0, {call.side(0, 0), call.side(0, 1)});
  if (gradient == nullptr) return;
  const std::lock_guard<std::mutex> lock(opMutex);
  applyGeluGradient(static_cast<std::size_t>(call.side(0, 0)) * call.side(0, 1), call.floats(0), call.floats(1), gradient);
}

struct AttentionSettings {
  std::int64_t tokens;
  std::int64_t heads;
};

void* readAttention(TF_OpKernelConstruction* construction) {
  const auto read = [construction](const char* name) { return attribute<std::int64_t>(construction, name, TF_OpKernelConstruction_GetAttrInt64); };
  return new AttentionSettings{read("tokens"), read("heads")};
}

void deleteAttention(void* settings) { delete static_cast<AttentionSettings*>(settings); }

constexpr char WRONG_ATTENTION[] =
    "Queries, keys and values must be [N * tokens, 3 * heads * D], the gradient of the output [N * tokens, heads * D], and statistics [N, heads, tokens, 2].";

bool isAttention(const Call& call, const AttentionSettings& settings) {
  return isMatrix(call, 0) && settings.tokens > 0 && settings.tokens <= INT_MAX / 2 && settings.heads > 0 && settings.heads <= INT_MAX / 3 && call.side(0, 0) % settings.tokens == 0 &&
         call.side(0, 1) % (3 * settings.heads) == 0 && call.side(0, 0) / settings.tokens * settings.heads <= INT_MAX;
}

AttentionShape shapeOf(const Call& call, const AttentionSettings& settings) {
  return {static_cast<int>(call.side(0, 0) / settings.tokens), static_cast<int>(settings.tokens), static_cast<int>(settings.heads), static_cast<int>(call.side(0, 1) / 3 / settings.heads)};
}

/** Computes the output and the statistics of its rows from queries, keys and values. */
void runAttention(void* kernel, TF_OpKernelContext* context) {
  const AttentionSettings& settings = *static_cast<AttentionSettings*>(kernel);
  Call call(context, 1);
  if (!call.isOk()) return;
  if (!isAttention(call, settings)) return call.fail(WRONG_ATTENTION);
  const AttentionShape shape = shapeOf(call, settings);
  float* const output = call.output(0, {call.side(0, 0), call.side(0, 1) / 3});
  float* const statistics = call.output(1, {shape.images, shape.heads, shape.tokens, ROW_STATISTICS});
  if (!call.isOk()) return;
  const std::lock_guard<std::mutex> lock(opMutex);
  attend(*productKernel(Factors::FLOAT32), shape, call.floats(0), output, statistics);
}

/** Computes the gradient of queries, keys and values from them, the statistics and the gradient of the output. */
void runAttentionGradient(void* kernel, TF_OpKernelContext* context) {
  const AttentionSettings& settings = *static_cast<AttentionSettings*>(kernel);
  Call call(context, 3);
  if (!call.isOk()) return;
  if (!isAttention(call, settings)) return call.fail(WRONG_ATTENTION);
  const AttentionShape shape = shapeOf(call, settings);
  const bool areStatistics = call.rank(1) == 4 && call.side(1, 0) == shape.images && call.side(1, 1) == shape.heads && call.side(1, 2) == shape.tokens && call.side(1, 3) == ROW_STATISTICS;
  const bool isGradient = call.rank(2) == 2 && call.side(2, 0) == call.side(0, 0) && call.side(2, 1) == call.side(0, 1) / 3;
  if (!areStatistics || !isGradient) return call.fail(WRONG_ATTENTION);
  float* const gradient = call.output(0, {call.side(0, 0), call.side(0, 1)});
  if (gradient == nullptr) return;
  const std::lock_guard<std::mutex> lock(opMutex);
  attendGradient(*productKernel(Factors::FLOAT32), shape, call.floats(0), call.floats(1), call.floats(2), gradient);
}

const bool areRegistered = [] {
  registerOp({"ParaffinLinear", {"input: float", "weight: T", "offset: float"}, {"output: float"}, {"T: {float, bfloat16, half}", "in_bfloat16: bool"}, readLinear, runLinear, deleteLinear});
  registerOp({"ParaffinLinearGradient", {"input: float", "weight: float", "output_gradient: float"}, {"input_gradient: float", "weight_gradient: float", "offset_gradient: float"},
       {"in_bfloat16: bool"}, readLinearGradient, runLinearGradient, deleteLinear});
  registerOp({"ParaffinLayerNorm", {"values: float", "scale: float", "offset: float"}, {"output: float", "mean: float", "inverse_std: float"}, {"epsilon: float"}, readNorm, runLayerNorm, deleteNorm});
  registerOp({"ParaffinLayerNormGradient", {"output_gradient: float", "values: float", "scale: float", "mean: float", "inverse_std: float"},
       {"values_gradient: float", "scale_gradient: float", "offset_gradient: float"}, {}, noSettings, runLayerNormGradient, keepNothing});
  registerOp({"ParaffinGelu", {"values: float"}, {"output: float"}, {}, noSettings, runGelu, keepNothing});
  registerOp({"ParaffinGeluGradient", {"values: float", "output_gradient: float"}, {"gradient: float"}, {}, noSettings, runGeluGradient, keepNothing});
  registerOp({"ParaffinAttention", {"qkv: float"}, {"output: float", "statistics: float"}, {"tokens: int", "heads: int"}, readAttention, runAttention, deleteAttention});
  registerOp({"ParaffinAttentionGradient", {"qkv: float", "statistics: float", "output_gradient: float"}, {"gradient: float"}, {"tokens: int", "heads: int"}, readAttention, runAttentionGradient, deleteAttention});
  return true;
}();

}  // namespace
}  // namespace paraffin
