/** Fair turns for access to the database. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { createFairQueue, DEFAULT_QUEUE_LIMITS, type Place } from '../../src/api/fair-queue.ts';

const limits = { total: 3, perSender: 2, waitingPerSender: 2, waitMs: 60_000 };

/** Enters the queue, and records the name once it is admitted. */
function enter(place: Place, name: string, inside: string[]): Promise<void> {
  return place.enter().then(() => void inside.push(name));
}
const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe('a turn', () => {
  test('is had at once by so many of one sender and of all, and by the next when one leaves', async () => {
    const queue = createFairQueue(limits);
    const inside: string[] = [];
    const a = ['a1', 'a2', 'a3'].map((name) => ({ name, place: queue.placeFor('a') }));
    const b = ['b1', 'b2'].map((name) => ({ name, place: queue.placeFor('b') }));
    const entered = [...a, ...b].map(({ name, place }) => enter(place, name, inside));
    await settled();
    assert.deepEqual(inside, ['a1', 'a2', 'b1']);
    b[0]?.place.leave();
    await settled();
    // a already has its two places, so b is next, although it asked later.
    assert.deepEqual(inside, ['a1', 'a2', 'b1', 'b2']);
    a[0]?.place.leave();
    await Promise.all(entered);
    assert.deepEqual(inside, ['a1', 'a2', 'b1', 'b2', 'a3']);
  });

  test('comes to whoever asks little before all of whoever asks much', async () => {
    const queue = createFairQueue({ ...limits, total: 1, perSender: 1, waitingPerSender: 100 });
    const inside: string[] = [];
    const places: Place[] = [];
    const ask = (who: string, name: string): Promise<void> => {
      const place = queue.placeFor(who);
      places.push(place);
      return enter(place, name, inside).then(() => place.leave());
    };
    const all = [...Array.from({ length: 20 }, (_, index) => ask('much', `m${index}`)), ask('little', 'little')];
    await Promise.all(all);
    assert.equal(inside.length, 21);
    assert.ok(inside.indexOf('little') <= 3, inside.join(' '));
  });

  test('that does not come in time, or has too many before it, is OVERLOADED and tells when to ask again', async () => {
    const queue = createFairQueue({ ...limits, waitMs: 20 });
    for (const place of [queue.placeFor('a'), queue.placeFor('a')]) await place.enter();
    const waiting = [queue.placeFor('a'), queue.placeFor('a')].map((place) =>
      assert.rejects(place.enter(), { code: 'OVERLOADED', retryAfterSeconds: 1, retryable: true }),
    );
    await assert.rejects(queue.placeFor('a').enter(), { code: 'OVERLOADED' });
    await queue.placeFor('b').enter();
    await Promise.all(waiting);
  });

  test("of somebody who left while waiting is the next one's, and no place is lost", async () => {
    const queue = createFairQueue({ ...limits, total: 1 });
    const first = queue.placeFor('a');
    await first.enter();
    const gone = queue.placeFor('b');
    const entered = gone.enter();
    gone.leave();
    gone.leave();
    first.leave();
    first.leave();
    await entered;
    await queue.placeFor('c').enter();
  });
});

test('one sender never takes the whole pool', () => {
  assert.ok(DEFAULT_QUEUE_LIMITS.perSender < 12 && DEFAULT_QUEUE_LIMITS.perSender < DEFAULT_QUEUE_LIMITS.total);
});
