/** Checks of instants that the code under test reads from the clock. */
import assert from 'node:assert/strict';

/**
 * @param beganMs `Date.now()` before the operation that sets the instant. On any machine the instant lies between that
 * and now; PostgreSQL rounds it to a millisecond, possibly upwards.
 */
export function assertTakenSince(beganMs: number, instant: Date): void {
  const takenMs = instant.getTime();
  const nowMs = Date.now();
  assert.ok(beganMs <= takenMs && takenMs <= nowMs + 1, `${takenMs} is not between ${beganMs} and ${nowMs}`);
}
