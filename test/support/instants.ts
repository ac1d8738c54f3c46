/** Instants that the code under test takes from the clock. */
import assert from 'node:assert/strict';

/**
 * @param beganMs `Date.now()` before what set the instant began. However slow the machine is, the instant lies between
 * that and now; PostgreSQL rounds it to a millisecond, up too.
 */
export function assertTakenSince(beganMs: number, instant: Date): void {
  const takenMs = instant.getTime();
  const nowMs = Date.now();
  assert.ok(beganMs <= takenMs && takenMs <= nowMs + 1, `${takenMs} is not between ${beganMs} and ${nowMs}`);
}
