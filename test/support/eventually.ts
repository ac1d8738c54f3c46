/** Waits for a condition with a deadline, never for a fixed time. */

const POLL_EVERY_MS = 25;

/**
 * Returns the first value of `poll` that is not undefined.
 * @throws Error naming what was waited for when the deadline has passed.
 */
export async function eventually<Value>(
  what: string,
  poll: () => Promise<Value | undefined> | Value | undefined,
  deadlineMs = 15_000,
): Promise<Value> {
  const endMs = performance.now() + deadlineMs;
  for (;;) {
    const value = await poll();
    if (value !== undefined) return value;
    if (performance.now() > endMs) throw new Error(`Waited ${deadlineMs} ms for ${what}.`);
    await new Promise((resolve) => setTimeout(resolve, POLL_EVERY_MS));
  }
}
