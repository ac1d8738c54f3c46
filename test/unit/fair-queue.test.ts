/** Fair turns for access to the database. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { createFairQueue, DEFAULT_QUEUE_LIMITS, type QueueSlot } from '../../src/api/fair-queue.ts';

const limits = { total: 3, perSender: 2, waitingPerSender: 2, waitMs: 60_000 };

/** Enters the queue, and records the name once it is admitted. */
function acquire(slot: QueueSlot, name: string, inside: string[]): Promise<void> {
  return slot.acquire().then(() => void inside.push(name));
}
const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe('a turn', () => {
  test('is given at once up to the limits per sender and in total, and to the next request when one ends', async () => {
    const queue = createFairQueue(limits);
    const inside: string[] = [];
    const a = ['a1', 'a2', 'a3'].map((name) => ({ name, slot: queue.slotFor('a') }));
    const b = ['b1', 'b2'].map((name) => ({ name, slot: queue.slotFor('b') }));
    const acquired = [...a, ...b].map(({ name, slot }) => acquire(slot, name, inside));
    await settled();
    assert.deepEqual(inside, ['a1', 'a2', 'b1']);
    b[0]?.slot.release();
    await settled();
    // a already has its two slots, so b is next, although it asked later.
    assert.deepEqual(inside, ['a1', 'a2', 'b1', 'b2']);
    a[0]?.slot.release();
    await Promise.all(acquired);
    assert.deepEqual(inside, ['a1', 'a2', 'b1', 'b2', 'a3']);
  });

  test('comes to a sender with few requests before all those of a sender with many', async () => {
    const queue = createFairQueue({ ...limits, total: 1, perSender: 1, waitingPerSender: 100 });
    const inside: string[] = [];
    const slots: QueueSlot[] = [];
    const ask = (who: string, name: string): Promise<void> => {
      const slot = queue.slotFor(who);
      slots.push(slot);
      return acquire(slot, name, inside).then(() => slot.release());
    };
    const all = [...Array.from({ length: 20 }, (_, index) => ask('much', `m${index}`)), ask('little', 'little')];
    await Promise.all(all);
    assert.equal(inside.length, 21);
    assert.ok(inside.indexOf('little') <= 3, inside.join(' '));
  });

  test('that takes too long, or has too many before it, is refused as OVERLOADED with a time to retry', async () => {
    const queue = createFairQueue({ ...limits, waitMs: 20 });
    for (const slot of [queue.slotFor('a'), queue.slotFor('a')]) await slot.acquire();
    const waiting = [queue.slotFor('a'), queue.slotFor('a')].map((slot) =>
      assert.rejects(slot.acquire(), { code: 'OVERLOADED', retryAfterSeconds: 1, retryable: true }),
    );
    await assert.rejects(queue.slotFor('a').acquire(), { code: 'OVERLOADED' });
    await queue.slotFor('b').acquire();
    await Promise.all(waiting);
  });

  test('of a request that was aborted while waiting goes to the next one, and no slot is lost', async () => {
    const queue = createFairQueue({ ...limits, total: 1 });
    const first = queue.slotFor('a');
    await first.acquire();
    const gone = queue.slotFor('b');
    const acquired = gone.acquire();
    gone.release();
    gone.release();
    first.release();
    first.release();
    await acquired;
    await queue.slotFor('c').acquire();
  });
});

test('one sender never takes the whole pool', () => {
  assert.ok(DEFAULT_QUEUE_LIMITS.perSender < 12 && DEFAULT_QUEUE_LIMITS.perSender < DEFAULT_QUEUE_LIMITS.total);
});
