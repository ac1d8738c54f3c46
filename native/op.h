/** What our ops need from TensorFlow's C API: reading inputs and attributes, allocating outputs, and registration. */
#pragma once

#include <cpuid.h>

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <mutex>
#include <vector>

#include "tensorflow-kernels.h"
#include "tensorflow/c/ops.h"

namespace paraffin {

/** One run of an op: its inputs, and the first error that occurred. */
class Call {
 public:
  Call(TF_OpKernelContext* context, int inputCount) : context_(context), status_(TF_NewStatus()), inputs_(inputCount, nullptr) {
    for (int index = 0; index < inputCount && isOk(); index += 1) TF_GetInput(context_, index, &inputs_[index], status_);
  }

  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  ~Call() {
    if (!isOk()) TF_OpKernelContext_Failure(context_, status_);
    for (TF_Tensor* input : inputs_) {
      if (input != nullptr) TF_DeleteTensor(input);
    }
    TF_DeleteStatus(status_);
  }

  bool isOk() const { return TF_GetCode(status_) == TF_OK; }

  void fail(const char* message) { TF_SetStatus(status_, TF_INVALID_ARGUMENT, message); }

  int rank(int index) const { return TF_NumDims(inputs_[index]); }
  std::int64_t side(int index, int axis) const { return TF_Dim(inputs_[index], axis); }
  const void* values(int index) const { return TF_TensorData(inputs_[index]); }
  const float* floats(int index) const { return static_cast<const float*>(values(index)); }

  bool haveSameShape(int first, int second) const {
    bool isSame = rank(first) == rank(second);
    for (int axis = 0; axis < rank(first) && isSame; axis += 1) isSame = side(first, axis) == side(second, axis);
    return isSame;
  }

  /**
   * A new tensor for a result, owned by TensorFlow; nullptr if there is no memory for it, in which case the call has
   * failed.
   */
  float* output(int index, std::initializer_list<std::int64_t> sides) {
    std::size_t byteSize = sizeof(float);
    for (const std::int64_t side : sides) byteSize *= static_cast<std::size_t>(side);
    TF_Tensor* const tensor = TF_AllocateOutput(context_, index, TF_FLOAT, sides.begin(), static_cast<int>(sides.size()), byteSize, status_);
    if (!isOk() || tensor == nullptr) return nullptr;
    float* const floats = static_cast<float*>(TF_TensorData(tensor));
    TF_DeleteTensor(tensor);
    return floats;
  }

 private:
  TF_OpKernelContext* const context_;
  TF_Status* const status_;
  std::vector<TF_Tensor*> inputs_;
};

/** An attribute's value, as TensorFlow stores it with the kernel. If it is missing, the kernel is not created. */
template <typename Value>
Value attribute(TF_OpKernelConstruction* construction, const char* name, void (*read)(TF_OpKernelConstruction*, const char*, Value*, TF_Status*)) {
  Value value{};
  TF_Status* const status = TF_NewStatus();
  read(construction, name, &value, status);
  if (TF_GetCode(status) != TF_OK) TF_OpKernelConstruction_Failure(construction, status);
  TF_DeleteStatus(status);
  return value;
}

/** Ops share their threads and their workspaces, so each computation holds this lock. */
inline std::mutex opMutex;

struct Op {
  const char* name;
  /** Written as in TensorFlow: `images: float`, `stride: int`. */
  std::initializer_list<const char*> inputs;
  std::initializer_list<const char*> outputs;
  std::initializer_list<const char*> attributes;
  void* (*create)(TF_OpKernelConstruction*);
  void (*run)(void*, TF_OpKernelContext*);
  void (*destroy)(void*);
};

/** Conversion of float16. Older compilers have no name for it in `__builtin_cpu_supports`. */
inline bool hasF16c() {
  unsigned int eax = 0;
  unsigned int ebx = 0;
  unsigned int ecx = 0;
  unsigned int edx = 0;
  return __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
}

/** Registers an op for CPUs if the processor has AVX2, FMA and F16C, for which the op is compiled. */
inline void registerOp(const Op& op) {
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") || !hasF16c()) return;
  TF_Status* const status = TF_NewStatus();
  TF_OpDefinitionBuilder* const definition = TF_NewOpDefinitionBuilder(op.name);
  for (const char* input : op.inputs) TF_OpDefinitionBuilderAddInput(definition, input);
  for (const char* output : op.outputs) TF_OpDefinitionBuilderAddOutput(definition, output);
  for (const char* attribute : op.attributes) TF_OpDefinitionBuilderAddAttr(definition, attribute);
  // TensorFlow infers shapes only when it builds graphs, which the engine does not do.
  TF_OpDefinitionBuilderSetShapeInferenceFunction(definition, [](TF_ShapeInferenceContext*, TF_Status* fine) { TF_SetStatus(fine, TF_OK, ""); });
  TF_RegisterOpDefinition(definition, status);
  if (TF_GetCode(status) == TF_OK) TF_RegisterKernelBuilder(op.name, TF_NewKernelBuilder(op.name, "CPU", op.create, op.run, op.destroy), status);
  TF_DeleteStatus(status);
}

}  // namespace paraffin
