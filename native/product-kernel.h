/**
 * The innermost part of a matrix product: a few rows times a few panels of 16 columns, whose sums stay in registers.
 * There is one kernel for each instruction set.
 */
#pragma once

#include <cstddef>

namespace paraffin {

/** Columns of the right factor that lie side by side. */
constexpr int PANEL_COLUMNS = 16;

/** The dtype to which factors are rounded; sums are always float32. */
enum class Factors { FLOAT32, BFLOAT16 };

/** product [rows, 16 * panels] = left [rows, depth] times right [depth, 16 * panels]. All steps count lanes of 32 bits. */
struct Tile {
  /** Lanes to sum over: numbers for float32; for bfloat16 pairs of numbers, of which the first is in the lower half. */
  int depth;
  const float* left;
  std::size_t leftRowStep;
  std::size_t leftDepthStep;
  /** Panels of [depth, 16] lanes, each `rightPanelStep` after the one before. */
  const float* right;
  std::size_t rightPanelStep;
  float* product;
  std::size_t productRowStep;
  /** 16 where the product is one matrix. */
  std::size_t productPanelStep;
  /** Adds to the previous product instead of replacing it. */
  bool adds;
};

struct ProductKernel {
  /** The largest tile that stays in registers. */
  int rowsMax;
  int panelsMax;
  void (*multiply)(int rows, int panels, const Tile& tile);
};

extern const ProductKernel AVX2_PRODUCT;
extern const ProductKernel AVX512_PRODUCT;
extern const ProductKernel BFLOAT16_PRODUCT;

/** The fastest kernel of this processor; nullptr for bfloat16 on processors that have no AVX512_BF16 or have AMX, where oneDNN is faster. */
const ProductKernel* productKernel(Factors factors);

}  // namespace paraffin
