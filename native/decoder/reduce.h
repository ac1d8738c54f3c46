// Antialiased bilinear reduction, with the numbers of libvips.
#pragma once

#include "pixels.h"

namespace paraffin {

/** True if `reduce` makes the pixels that libvips makes. */
bool canReduce(int sourcePx, int targetPx, double factor);

/**
 * Reduces vertically, then horizontally, each by a triangle filter as wide as the factor: for every target pixel the
 * filter's position is rounded to 1/64 pixel and its weights to 12 bits, and each pass rounds to 8 bits. Beyond the
 * image its border pixels are repeated.
 * @param horizontal, vertical factors for which `canReduce` holds.
 */
void reduce(Pixels& pixels, double horizontal, double vertical);

}  // namespace paraffin
