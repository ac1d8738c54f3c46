import assert from 'node:assert/strict';

/** Asserts that every entry is within `tolerance` of the one at the same index. */
export function assertClose(actual: Iterable<number>, expected: readonly number[], tolerance: number): void {
  const values = [...actual];
  assert.equal(values.length, expected.length);
  for (const [index, value] of values.entries()) {
    const wanted = expected[index] ?? NaN;
    assert.ok(Math.abs(value - wanted) <= tolerance, `entry ${index}: ${value}, not ${wanted}`);
  }
}
