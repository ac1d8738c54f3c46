#include <immintrin.h>

#include "product-kernel.h"

#pragma GCC target("avx512f,avx512bf16")

namespace paraffin {
namespace {

/** As with AVX-512, where each lane holds two numbers. */
struct Lanes {
  static constexpr int ROWS_MAX = 8;
  static constexpr int PANELS_MAX = 3;
  using Factor = __m512;
  using Panel = __m512;

  static Factor broadcast(const float* lane) { return _mm512_set1_ps(*lane); }
  static Panel load(const float* lanes) { return _mm512_loadu_ps(lanes); }
  static Panel zero() { return _mm512_setzero_ps(); }
  static void store(float* lanes, Panel panel) { _mm512_storeu_ps(lanes, panel); }
  static Panel multiplyAdd(Factor factor, Panel panel, Panel sums) { return _mm512_dpbf16_ps(sums, reinterpret_cast<__m512bh>(factor), reinterpret_cast<__m512bh>(panel)); }
};

}  // namespace
}  // namespace paraffin

#include "product-tile.h"

namespace paraffin {

const ProductKernel BFLOAT16_PRODUCT{Lanes::ROWS_MAX, Lanes::PANELS_MAX, multiplyPanels<>};

}  // namespace paraffin
