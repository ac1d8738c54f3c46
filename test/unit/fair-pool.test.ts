/** Several jobs at a time, within a budget, and no owner waits for all jobs of another. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { createFairPool } from '../../src/platform/fair-pool.ts';

/** Named jobs, each of which the test ends explicitly. */
function bench(options: Parameters<typeof createFairPool>[0]) {
  const pool = createFairPool(options);
  const running = new Map<string, () => void>();
  return {
    ask: (person: string, name: string, byteSize = 1): Promise<void> =>
      pool.run(person, byteSize, async () => {
        const { promise, resolve } = Promise.withResolvers<void>();
        running.set(name, resolve);
        await promise;
        running.delete(name);
      }),
    end: async (name: string): Promise<void> => {
      running.get(name)?.();
      await turn();
    },
    running: async (): Promise<string[]> => {
      await turn();
      return [...running.keys()].sort();
    },
  };
}

test('one user fills half of the slots, and another one starts at once', async () => {
  const { ask, end, running } = bench({ slotCount: 4, budgetBytes: 100 });
  const all = ['a1', 'a2', 'a3', 'a4'].map((name) => ask('Ada', name));
  assert.deepEqual(await running(), ['a1', 'a2']);
  all.push(ask('Grace', 'g1'));
  assert.deepEqual(await running(), ['a1', 'a2', 'g1']);
  await end('a1');
  assert.deepEqual(await running(), ['a2', 'a3', 'g1']);
  for (const name of ['a2', 'a3', 'g1', 'a4']) await end(name);
  await Promise.all(all);
});

test('with two slots one user gets one, however long the first task takes', async () => {
  const { ask, end, running } = bench({ slotCount: 2, budgetBytes: 100 });
  const all = [ask('Ada', 'a1'), ask('Ada', 'a2'), ask('Grace', 'g1'), ask('Grace', 'g2')];
  assert.deepEqual(await running(), ['a1', 'g1']);
  await end('g1');
  assert.deepEqual(await running(), ['a1', 'g2'], 'the person with the least under way comes next');
  for (const name of ['g2', 'a1', 'a2']) await end(name);
  await Promise.all(all);
});

test('memory is shared like slots, and a task that exceeds it runs alone', async () => {
  const { ask, end, running } = bench({ slotCount: 8, budgetBytes: 100 });
  const all = [ask('Ada', 'a60', 60), ask('Ada', 'a10', 10), ask('Grace', 'g40', 40), ask('Grace', 'g1', 1)];
  assert.deepEqual(await running(), ['a60', 'g40']);
  await end('a60');
  all.push(ask('Ada', 'a500', 500));
  assert.deepEqual(await running(), ['a10', 'g1', 'g40']);
  for (const name of ['a10', 'g1', 'g40']) await end(name);
  assert.deepEqual(await running(), ['a500']);
  await end('a500');
  await Promise.all(all);
});

test('a failed task frees its slot, and only its own caller gets the error', async () => {
  const pool = createFairPool({ slotCount: 1, budgetBytes: 1 });
  await assert.rejects(
    pool.run('Ada', 1, () => Promise.reject(new Error('broken'))),
    /broken/,
  );
  assert.equal(await pool.run('Ada', 1, () => Promise.resolve('done')), 'done');
});
