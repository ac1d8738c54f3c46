/**
 * Matrix products of any size on all threads, for the linear layers of transformers. The result does not depend on the number of threads.
 */
#pragma once

#include "packed-product.h"

namespace paraffin {

struct ProductShape {
  int rows;
  int depth;
  int columns;
};

/**
 * product [rows, columns] = left [rows, depth] times right [depth, columns], plus `offset` [columns] for each row unless it
 * is nullptr. A right factor of 16 bits gives the bits that its numbers in float32 would. One call at a time: calls share a
 * workspace of a few MB, so that no factor is kept a second time.
 */
void multiplyMatrices(const ProductKernel& kernel, Factors factors, const ProductShape& shape, const Factor& left, const Factor& right, const float* offset, float* product);

/** The sum of all rows of [rows, columns]. */
void sumRows(const float* values, int rows, int columns, float* sums);

}  // namespace paraffin
