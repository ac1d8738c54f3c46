#include <immintrin.h>

#include "product-kernel.h"

#pragma GCC target("avx512f")

namespace paraffin {
namespace {

/** Eight times three sums, three factors and a repeated one fit in the 32 vector registers. */
struct Lanes {
  static constexpr int ROWS_MAX = 8;
  static constexpr int PANELS_MAX = 3;
  using Factor = __m512;
  using Panel = __m512;

  static Factor broadcast(const float* lane) { return _mm512_set1_ps(*lane); }
  static Panel load(const float* lanes) { return _mm512_loadu_ps(lanes); }
  static Panel zero() { return _mm512_setzero_ps(); }
  static void store(float* lanes, Panel panel) { _mm512_storeu_ps(lanes, panel); }
  static Panel multiplyAdd(Factor factor, Panel panel, Panel sums) { return _mm512_fmadd_ps(factor, panel, sums); }
};

}  // namespace
}  // namespace paraffin

#include "product-tile.h"

namespace paraffin {

const ProductKernel AVX512_PRODUCT{Lanes::ROWS_MAX, Lanes::PANELS_MAX, multiplyPanels<>};

}  // namespace paraffin
