/** Many at once, results in order, memory bounded, nothing left running. */
import assert from 'node:assert/strict';
import { setImmediate as turn } from 'node:timers/promises';
import { test } from 'node:test';
import { mapInOrder } from '../../workers/imaging/in-order.ts';

async function collect<Item>(source: AsyncIterable<Item>): Promise<Item[]> {
  const items: Item[] = [];
  for await (const item of source) items.push(item);
  return items;
}

test('results come in the order of the items, never more than the window at once', async () => {
  let running = 0;
  let most = 0;
  const results = await collect(
    mapInOrder(
      Array.from({ length: 50 }, (_, index) => index),
      { windowSize: 4, byteLimit: 1 },
      async (item) => {
        running += 1;
        most = Math.max(most, running);
        for (let turns = (item * 7) % 5; turns > 0; turns -= 1) await turn();
        running -= 1;
        return item;
      },
    ),
  );
  assert.deepEqual(
    results,
    Array.from({ length: 50 }, (_, index) => index),
  );
  assert.equal(most, 4);
});

test('reserved bytes stay within the limit, and one item larger than it passes alone', async () => {
  let held = 0;
  let most = 0;
  const sizes = [30, 60, 250, 10, 90, 90, 20, 100, 5];
  for await (const size of mapInOrder(sizes, { windowSize: 6, byteLimit: 100 }, async (byteCount, reserve) => {
    await turn();
    await reserve(byteCount);
    held += byteCount;
    most = Math.max(most, held > 250 ? 250 : held);
    if (byteCount !== 250) assert.ok(held <= 100 || held >= 250, `${held} bytes`);
    return byteCount;
  })) {
    held -= size;
  }
  assert.equal(held, 0);
});

test('reserving in two parts never waits in a circle', async () => {
  const results = await collect(
    mapInOrder([1, 2, 3, 4, 5, 6], { windowSize: 6, byteLimit: 100 }, async (item, reserve) => {
      for (let turns = 6 - item; turns > 0; turns -= 1) await turn();
      await reserve(60);
      await turn();
      await reserve(60);
      return item;
    }),
  );
  assert.deepEqual(results, [1, 2, 3, 4, 5, 6]);
});

test('a failure ends the loop after the work under way, those that wait for memory included', async () => {
  let running = 0;
  const source = mapInOrder([1, 2, 3, 4], { windowSize: 4, byteLimit: 10 }, async (item, reserve) => {
    running += 1;
    try {
      await turn();
      if (item === 2) throw new Error('bad item');
      await reserve(10);
      return item;
    } finally {
      running -= 1;
    }
  });
  await assert.rejects(collect(source), /bad item/);
  assert.equal(running, 0);
});

test('leaving the loop early waits for the work under way', async () => {
  let running = 0;
  for await (const item of mapInOrder([1, 2, 3, 4, 5], { windowSize: 3, byteLimit: 10 }, async (value) => {
    running += 1;
    await turn();
    await turn();
    running -= 1;
    return value;
  })) {
    if (item === 1) break;
  }
  assert.equal(running, 0);
});
