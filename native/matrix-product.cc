#include "matrix-product.h"

#include <cpuid.h>

#include <algorithm>
#include <cstring>

#include "packed-product.h"
#include "threads.h"
#include "workspace.h"

#pragma GCC target("avx2,fma")

namespace paraffin {
namespace {

/** Lanes that are summed at once, so that three panels of them stay in the second-level cache beside the left factor. */
constexpr int LANES_AT_ONCE = 256;
/** Rows that one thread takes at once: a multiple of both kernels' rows. */
constexpr int ROWS_PER_UNIT = 96;
constexpr int ROWS_PER_SMALL_UNIT = 24;
/** Small products are divided into at least so many parts, so that all threads have one. */
constexpr int UNITS_WANTED = 16;
/** The packed right factor stays in the third-level cache. */
constexpr std::size_t PACKED_LANES_MAX = 3 << 20;
constexpr int OUTER_LANES_MIN = 1024;
constexpr int COLUMNS_PER_SUM = 64;
constexpr int ROWS_PER_SUM = 64;

Workspace rightSpace;

/** One product on one thread: rows from `first` on, the lanes of one packed right factor. */
class Unit {
 public:
  Unit(const ProductKernel& kernel, Factors factors, const ProductShape& shape, const Factor& left, const float* packedRight, int firstLane, int lanes, const float* offset, float* product)
      : kernel_(kernel), factors_(factors), shape_(shape), left_(left), packedRight_(packedRight), firstLane_(firstLane), lanes_(lanes), offset_(offset), product_(product) {}

  void run(int first, int rows) const {
    static thread_local Workspace leftSpace;
    static thread_local Workspace tailSpace;
    float* const packedLeft = leftSpace.take(static_cast<std::size_t>(ROWS_PER_UNIT) * LANES_AT_ONCE);
    const int wholePanels = shape_.columns / PANEL_COLUMNS;
    const int tail = shape_.columns % PANEL_COLUMNS;
    float* const tailProduct = tailSpace.take(static_cast<std::size_t>(ROWS_PER_UNIT) * PANEL_COLUMNS);
    float* const rowsProduct = product_ + static_cast<std::size_t>(first) * shape_.columns;
    const bool isFirst = firstLane_ == 0;
    if (isFirst) start(rows, rowsProduct);
    if (tail > 0) copyTail(rows, tail, rowsProduct + wholePanels * PANEL_COLUMNS, shape_.columns, tailProduct, PANEL_COLUMNS);
    for (int from = 0; from < lanes_; from += LANES_AT_ONCE) {
      Tile tile = leftPart(first, rows, from, std::min(LANES_AT_ONCE, lanes_ - from), packedLeft);
      tile.right = packedRight_ + static_cast<std::size_t>(from) * PANEL_COLUMNS;
      tile.rightPanelStep = static_cast<std::size_t>(lanes_) * PANEL_COLUMNS;
      tile.adds = true;
      tile.product = rowsProduct;
      tile.productRowStep = shape_.columns;
      tile.productPanelStep = PANEL_COLUMNS;
      multiplyPacked(kernel_, rows, wholePanels, tile);
      if (tail == 0) continue;
      tile.right += wholePanels * tile.rightPanelStep;
      tile.product = tailProduct;
      tile.productRowStep = PANEL_COLUMNS;
      multiplyPacked(kernel_, rows, 1, tile);
    }
    if (tail > 0) copyTail(rows, tail, tailProduct, PANEL_COLUMNS, rowsProduct + wholePanels * PANEL_COLUMNS, shape_.columns);
  }

 private:
  /** Each sum starts with its offset. */
  void start(int rows, float* rowsProduct) const {
    for (int row = 0; row < rows; row += 1) {
      float* const to = rowsProduct + static_cast<std::size_t>(row) * shape_.columns;
      if (offset_ == nullptr) std::fill_n(to, shape_.columns, 0.0F);
      else std::memcpy(to, offset_, shape_.columns * sizeof(float));
    }
  }

  static void copyTail(int rows, int columns, const float* from, std::size_t fromStep, float* to, std::size_t toStep) {
    for (int row = 0; row < rows; row += 1) std::memcpy(to + row * toStep, from + row * fromStep, columns * sizeof(float));
  }

  Tile leftPart(int first, int rows, int from, int lanes, float* packed) const {
    Tile tile{};
    tile.depth = lanes;
    const int lane = firstLane_ + from;
    if (left_.isTransposed) {
      packLeftAcross(factors_, left_, first, rows, shape_.depth, lane, lanes, packed, ROWS_PER_UNIT);
      tile.left = packed;
      tile.leftRowStep = 1;
      tile.leftDepthStep = ROWS_PER_UNIT;
    } else if (factors_ == Factors::BFLOAT16) {
      packLeftAlong(factors_, left_, first, rows, shape_.depth, lane, lanes, packed, LANES_AT_ONCE);
      tile.left = packed;
      tile.leftRowStep = LANES_AT_ONCE;
      tile.leftDepthStep = 1;
    } else {
      tile.left = left_.floats() + first * left_.step + lane;
      tile.leftRowStep = left_.step;
      tile.leftDepthStep = 1;
    }
    return tile;
  }

  const ProductKernel& kernel_;
  const Factors factors_;
  const ProductShape& shape_;
  const Factor& left_;
  const float* const packedRight_;
  const int firstLane_;
  const int lanes_;
  const float* const offset_;
  float* const product_;
};

/** Whether the processor multiplies matrices of bfloat16 by a unit of its own (AMX), which oneDNN uses and this kernel does not. */
bool hasMatrixUnit() {
  unsigned int eax = 0;
  unsigned int ebx = 0;
  unsigned int ecx = 0;
  unsigned int edx = 0;
  constexpr unsigned int AMX_BF16 = 1U << 22;
  return __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) != 0 && (edx & AMX_BF16) != 0;
}

int rowsPerUnit(int rows) {
  int found = ROWS_PER_UNIT;
  while (found > ROWS_PER_SMALL_UNIT && (rows + found - 1) / found < UNITS_WANTED) found -= ROWS_PER_SMALL_UNIT;
  return found;
}

}  // namespace

void multiplyMatrices(const ProductKernel& kernel, Factors factors, const ProductShape& shape, const Factor& left, const Factor& right, const float* offset, float* product) {
  const int panels = panelCount(shape.columns);
  const int allLanes = laneCount(factors, shape.depth);
  const int mostLanes = std::max<int>(OUTER_LANES_MIN, PACKED_LANES_MAX / (static_cast<std::size_t>(std::max(1, panels)) * PANEL_COLUMNS) / LANES_AT_ONCE * LANES_AT_ONCE);
  const int numbersPerLane = factors == Factors::FLOAT32 ? 1 : 2;
  const int unitRows = rowsPerUnit(shape.rows);
  // A product without terms is its offset.
  for (int firstLane = 0; firstLane == 0 || firstLane < allLanes; firstLane += mostLanes) {
    const int lanes = std::min(mostLanes, allLanes - firstLane);
    const int firstNumber = firstLane * numbersPerLane;
    const Factor part = right.afterRows(firstNumber);
    float* const packed = rightSpace.take(static_cast<std::size_t>(panels) * lanes * PANEL_COLUMNS);
    const int depth = std::min(shape.depth - firstNumber, lanes * numbersPerLane);
    parallelFor(panels, [=, &part](int panel) { packPanel(factors, part, depth, shape.columns, panel, packed + static_cast<std::size_t>(panel) * lanes * PANEL_COLUMNS); });
    const Unit unit(kernel, factors, shape, left, packed, firstLane, lanes, offset, product);
    parallelFor((shape.rows + unitRows - 1) / unitRows, [&](int place) { unit.run(place * unitRows, std::min(unitRows, shape.rows - place * unitRows)); });
  }
}

void sumRows(const float* values, int rows, int columns, float* sums) {
  parallelFor((columns + COLUMNS_PER_SUM - 1) / COLUMNS_PER_SUM, [=](int unit) {
    const int first = unit * COLUMNS_PER_SUM;
    const int count = std::min(COLUMNS_PER_SUM, columns - first);
    // A float32 sum of thousands of terms loses digits, so a few at a time are added to a double.
    double totals[COLUMNS_PER_SUM] = {};
    for (int from = 0; from < rows; from += ROWS_PER_SUM) {
      float part[COLUMNS_PER_SUM] = {};
      for (int row = from; row < std::min(rows, from + ROWS_PER_SUM); row += 1) {
        for (int column = 0; column < count; column += 1) part[column] += values[static_cast<std::size_t>(row) * columns + first + column];
      }
      for (int column = 0; column < count; column += 1) totals[column] += part[column];
    }
    for (int column = 0; column < count; column += 1) sums[first + column] = static_cast<float>(totals[column]);
  });
}

const ProductKernel* productKernel(Factors factors) {
  if (factors == Factors::BFLOAT16) return __builtin_cpu_supports("avx512bf16") && !hasMatrixUnit() ? &BFLOAT16_PRODUCT : nullptr;
  return __builtin_cpu_supports("avx512f") ? &AVX512_PRODUCT : &AVX2_PRODUCT;
}

}  // namespace paraffin
