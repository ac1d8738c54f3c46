/** Divides the work of one op among as many threads as TensorFlow would use. */
#pragma once

namespace paraffin {

using UnitOfWork = void (*)(void* context, int unit);

/** Calls `work` with each of 0 .. unitCount - 1, on the caller's thread and the others, and returns when all are done. One caller at a time. */
void runUnits(int unitCount, UnitOfWork work, void* context);

/**
 * Like `runUnits`, for a callable: `parallelFor(rowCount, [&](int row) { … })`. The order of units and their threads are
 * undefined: units must not depend on each other.
 */
template <typename Work>
void parallelFor(int unitCount, Work work) {
  runUnits(unitCount, [](void* context, int unit) { (*static_cast<Work*>(context))(unit); }, &work);
}

}  // namespace paraffin
