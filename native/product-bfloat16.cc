#include <immintrin.h>

#include "product-kernel.h"

#pragma GCC target("avx512f,avx512bf16")

#include "product-lanes-512.h"

namespace paraffin {
namespace {

/** Each lane holds two numbers. */
struct Lanes : Lanes512 {
  static Panel multiplyAdd(Factor factor, Panel panel, Panel sums) { return _mm512_dpbf16_ps(sums, reinterpret_cast<__m512bh>(factor), reinterpret_cast<__m512bh>(panel)); }
};

}  // namespace
}  // namespace paraffin

#include "product-tile.h"

namespace paraffin {

const ProductKernel BFLOAT16_PRODUCT{Lanes::ROWS_MAX, Lanes::PANELS_MAX, multiplyPanels<>};

}  // namespace paraffin
