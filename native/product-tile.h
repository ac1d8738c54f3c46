/**
 * The body of a product kernel, for the source file of each instruction set: it includes this file after its target
 * pragma and after it has defined `Lanes`, because a template is compiled for the instruction set that is in effect
 * where it is defined.
 *
 * `Lanes` has `ROWS_MAX`, `PANELS_MAX`, the types `Factor` (one lane, repeated) and `Panel` (16 lanes or 16 sums), and
 * `broadcast`, `load`, `zero`, `store` and `multiplyAdd`.
 */
namespace paraffin {
namespace {

template <int ROWS, int PANELS>
void multiplyTile(const Tile& tile) {
  typename Lanes::Panel sums[ROWS][PANELS];
#pragma GCC unroll 8
  for (int row = 0; row < ROWS; row += 1) {
#pragma GCC unroll 4
    for (int panel = 0; panel < PANELS; panel += 1) sums[row][panel] = tile.adds ? Lanes::load(tile.product + row * tile.productRowStep + panel * tile.productPanelStep) : Lanes::zero();
  }
  // Two pointers to the rows, so that all addresses need few registers: x86 adds 0, 1 or 2 times a register, or a third.
  const std::size_t step = tile.leftRowStep;
  const std::size_t steps[4] = {0, step, 2 * step, 3 * step};
  const float* upper = tile.left;
  const float* lower = tile.left + (ROWS > 4 ? 4 * step : 0);
  const float* right = tile.right;
  for (int place = 0; place < tile.depth; place += 1) {
    typename Lanes::Panel panels[PANELS];
#pragma GCC unroll 4
    for (int panel = 0; panel < PANELS; panel += 1) panels[panel] = Lanes::load(right + panel * tile.rightPanelStep);
#pragma GCC unroll 8
    for (int row = 0; row < ROWS; row += 1) {
      const typename Lanes::Factor factor = Lanes::broadcast((row < 4 ? upper : lower) + steps[row % 4]);
#pragma GCC unroll 4
      for (int panel = 0; panel < PANELS; panel += 1) sums[row][panel] = Lanes::multiplyAdd(factor, panels[panel], sums[row][panel]);
    }
    upper += tile.leftDepthStep;
    lower += tile.leftDepthStep;
    right += PANEL_COLUMNS;
  }
#pragma GCC unroll 8
  for (int row = 0; row < ROWS; row += 1) {
#pragma GCC unroll 4
    for (int panel = 0; panel < PANELS; panel += 1) Lanes::store(tile.product + row * tile.productRowStep + panel * tile.productPanelStep, sums[row][panel]);
  }
}

template <int PANELS, int ROWS = Lanes::ROWS_MAX>
void multiplyRows(int rows, const Tile& tile) {
  if (rows == ROWS) return multiplyTile<ROWS, PANELS>(tile);
  if constexpr (ROWS > 1) multiplyRows<PANELS, ROWS - 1>(rows, tile);
}

template <int PANELS = Lanes::PANELS_MAX>
void multiplyPanels(int rows, int panels, const Tile& tile) {
  if (panels == PANELS) return multiplyRows<PANELS>(rows, tile);
  if constexpr (PANELS > 1) multiplyPanels<PANELS - 1>(rows, panels, tile);
}

}  // namespace
}  // namespace paraffin
