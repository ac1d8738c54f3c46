#include <immintrin.h>

#include "product-kernel.h"

#pragma GCC target("avx512f")

#include "product-lanes-512.h"

namespace paraffin {
namespace {

struct Lanes : Lanes512 {
  static Panel multiplyAdd(Factor factor, Panel panel, Panel sums) { return _mm512_fmadd_ps(factor, panel, sums); }
};

}  // namespace
}  // namespace paraffin

#include "product-tile.h"

namespace paraffin {

const ProductKernel AVX512_PRODUCT{Lanes::ROWS_MAX, Lanes::PANELS_MAX, multiplyPanels<>};

}  // namespace paraffin
