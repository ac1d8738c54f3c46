/** Memory for the factors of products, and how much of it the caches hold. */
#pragma once

#include <cstddef>
#include <cstdlib>
#include <new>

namespace paraffin {
namespace {

/** Floats that fill most of a core's second-level cache of 512 KB, and a few MB of the third-level cache. */
constexpr int L2_FLOATS = 98304;
constexpr int L3_FLOATS = 2097152;

/** Memory for intermediate values, kept for the next call: new pages are slow. */
class Workspace {
 public:
  float* take(std::size_t floatCount) {
    if (floatCount > floatCount_) {
      std::free(floats_);
      const std::size_t byteSize = (floatCount * sizeof(float) + 63) / 64 * 64;
      floats_ = static_cast<float*>(std::aligned_alloc(64, byteSize));
      floatCount_ = floats_ == nullptr ? 0 : floatCount;
      if (floats_ == nullptr) throw std::bad_alloc();
    }
    return floats_;
  }

  ~Workspace() { std::free(floats_); }

 private:
  float* floats_ = nullptr;
  std::size_t floatCount_ = 0;
};

}  // namespace
}  // namespace paraffin
