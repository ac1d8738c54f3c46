/** Many jobs at once: results in order, bounded memory, and no job left running. */
import assert from 'node:assert/strict';
import { setImmediate as turn } from 'node:timers/promises';
import { test } from 'node:test';
import { mapInOrder } from '../../workers/imaging/in-order.ts';

async function collect<Item>(source: AsyncIterable<Item>): Promise<Item[]> {
  const items: Item[] = [];
  for await (const item of source) items.push(item);
  return items;
}

test('results are returned in the order of the items, with at most a window of items in progress', async () => {
  let running = 0;
  let most = 0;
  const results = await collect(
    mapInOrder(
      Array.from({ length: 50 }, (_, index) => index),
      { windowSize: 4, shared: { bytes: 1 } },
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

test('the memory taken never exceeds the limit', async () => {
  let held = 0;
  let most = 0;
  const sizes = [30, 60, 100, 10, 90, 90, 20, 100, 5];
  for await (const size of mapInOrder(
    sizes,
    { windowSize: 6, shared: { bytes: 100 } },
    async (byteCount, { take, keep }) => {
      for (let turns = byteCount % 7; turns > 0; turns -= 1) await turn();
      await take('bytes', byteCount);
      held += byteCount;
      most = Math.max(most, held);
      await turn();
      held -= byteCount - 5;
      keep('bytes', 5);
      return 5;
    },
  ))
    held -= size;
  assert.equal(held, 0);
  assert.ok(most <= 100 && most >= 90, `${most} bytes`);
});

test('two resources that are taken in turn never deadlock', async () => {
  // The last jobs request memory first, and the first jobs need all of it.
  const results = await collect(
    mapInOrder([1, 2, 3, 4, 5, 6], { windowSize: 6, shared: { decoders: 2, bytes: 100 } }, async (item, room) => {
      for (let turns = 6 - item; turns > 0; turns -= 1) await turn();
      await room.take('decoders', 1);
      await turn();
      // One in the middle needs none of the second resource.
      if (item !== 3) await room.take('bytes', 100);
      room.keep('decoders', 0);
      return item;
    }),
  );
  assert.deepEqual(results, [1, 2, 3, 4, 5, 6]);
});

test('more than the limit is refused, and an amount that is already held may be taken again', async () => {
  const results = await collect(
    mapInOrder([101, 100, 99], { windowSize: 3, shared: { bytes: 100 } }, async (byteCount, { take }) => {
      const error = await take('bytes', byteCount).then(
        () => null,
        (reason: unknown) => reason,
      );
      if (error !== null) return error;
      await take('bytes', byteCount - 1);
      await assert.rejects(take('bytes', byteCount + 1), RangeError);
      return byteCount;
    }),
  );
  assert.ok(results[0] instanceof RangeError);
  assert.deepEqual(results.slice(1), [100, 99]);
});

test('a failure ends the loop after the work in progress, including items that wait for memory', async () => {
  let running = 0;
  const source = mapInOrder([1, 2, 3, 4], { windowSize: 4, shared: { bytes: 10 } }, async (item, { take }) => {
    running += 1;
    try {
      await turn();
      if (item === 2) throw new Error('bad item');
      await take('bytes', 10);
      return item;
    } finally {
      running -= 1;
    }
  });
  await assert.rejects(collect(source), /bad item/);
  assert.equal(running, 0);
});

test('leaving the loop early waits for the work in progress', async () => {
  let running = 0;
  for await (const item of mapInOrder([1, 2, 3, 4, 5], { windowSize: 3, shared: { bytes: 10 } }, async (value) => {
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
