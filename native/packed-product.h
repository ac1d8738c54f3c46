/**
 * The parts of a matrix product on one thread: factors are laid out as the kernels read them, in lanes of 32 bits, and
 * then multiplied.
 */
#pragma once

#include <cstddef>
#include <cstdint>

#include "product-kernel.h"

namespace paraffin {

/** The dtype of a factor in memory. Numbers of 16 bits are widened to float32 without loss when they are laid out. */
enum class Stored { FLOAT32, BFLOAT16, FLOAT16 };

/** A factor in memory; transposed, its element of row r and column c is `values[c * step + r]`. */
struct Factor {
  const void* values;
  /** Numbers from one row in memory to the next. */
  std::size_t step;
  bool isTransposed;
  /** Always float32 for a left factor. */
  Stored stored = Stored::FLOAT32;

  const float* floats() const { return static_cast<const float*>(values); }

  /** The same factor without its first `count` rows, which its products do not sum over. */
  Factor afterRows(std::size_t count) const {
    const std::size_t bytesPerNumber = stored == Stored::FLOAT32 ? sizeof(float) : sizeof(std::uint16_t);
    const std::size_t numbers = isTransposed ? count : count * step;
    return {static_cast<const unsigned char*>(values) + numbers * bytesPerNumber, step, isTransposed, stored};
  }
};

/** Lanes for `depth` numbers. */
inline int laneCount(Factors factors, int depth) { return factors == Factors::FLOAT32 ? depth : (depth + 1) / 2; }

inline int panelCount(int columns) { return (columns + PANEL_COLUMNS - 1) / PANEL_COLUMNS; }

/** Lays out one panel of the right factor, columns from 16 * panel on, as [lanes, 16]; columns beyond the last are zero. */
void packPanel(Factors factors, const Factor& right, int depth, int columns, int panel, float* packed);

/** Lays out a part of a transposed left factor as [lanes, rows], lanes `laneStep` apart. */
void packLeftAcross(Factors factors, const Factor& left, int firstRow, int rows, int depth, int firstLane, int lanes, float* packed, std::size_t laneStep);

/** Lays out a part of a left factor as [rows, lanes], rows `rowStep` apart: a multiple of 8 that is not below `lanes`. */
void packLeftAlong(Factors factors, const Factor& left, int firstRow, int rows, int depth, int firstLane, int lanes, float* packed, std::size_t rowStep);

/** Multiplies any number of rows and panels, tile by tile; `whole` describes all of them as one tile. */
void multiplyPacked(const ProductKernel& kernel, int rows, int panels, const Tile& whole);

}  // namespace paraffin
