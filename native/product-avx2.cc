#include <immintrin.h>

#include "product-kernel.h"

#pragma GCC target("avx2,fma")

namespace paraffin {
namespace {

/** Six times two sums, two factors and a repeated one fill the 16 vector registers. */
struct Lanes {
  static constexpr int ROWS_MAX = 6;
  static constexpr int PANELS_MAX = 1;
  using Factor = __m256;
  struct Panel {
    __m256 first;
    __m256 second;
  };

  static Factor broadcast(const float* lane) { return _mm256_broadcast_ss(lane); }
  static Panel load(const float* lanes) { return {_mm256_loadu_ps(lanes), _mm256_loadu_ps(lanes + 8)}; }
  static Panel zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
  static void store(float* lanes, const Panel& panel) {
    _mm256_storeu_ps(lanes, panel.first);
    _mm256_storeu_ps(lanes + 8, panel.second);
  }
  static Panel multiplyAdd(Factor factor, const Panel& panel, const Panel& sums) {
    return {_mm256_fmadd_ps(factor, panel.first, sums.first), _mm256_fmadd_ps(factor, panel.second, sums.second)};
  }
};

}  // namespace
}  // namespace paraffin

#include "product-tile.h"

namespace paraffin {

const ProductKernel AVX2_PRODUCT{Lanes::ROWS_MAX, Lanes::PANELS_MAX, multiplyPanels<>};

}  // namespace paraffin
