import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { createRandom, restoreRandom } from '../../workers/engine/rng.ts';

const draw = (count: number, next: () => number): number[] => Array.from({ length: count }, next);
const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;

describe('Random', () => {
  test('is xoshiro128**: words from a known state', () => {
    // Computed by hand from the reference definition, with state 1 2 3 4: rotl(2 * 5, 7) * 9 = 11520; then state words
    // are 7 0 1026 12288.
    const random = restoreRandom([1, 2, 3, 4]);
    assert.equal(random.uniform() * 2 ** 32, 11520);
    assert.deepEqual(random.state(), [7, 0, 1026, 12288]);
    assert.equal(random.uniform(), 0);
  });

  test('the same seed gives the same sequence, and other seeds do not, even 2^32 apart', () => {
    const first = draw(20, createRandom(7).uniform);
    assert.deepEqual(draw(20, createRandom(7).uniform), first);
    for (const seed of [8, 7 + 2 ** 32, -7]) assert.notDeepEqual(draw(20, createRandom(seed).uniform), first);
  });

  test('continues exactly from a saved state', () => {
    const random = createRandom(3);
    draw(11, random.normal);
    const state = random.state();
    const next = draw(9, random.normal);
    assert.deepEqual(draw(9, restoreRandom(state).normal), next);
  });

  test('forks are separate streams and leave their origin unchanged', () => {
    const random = createRandom(3);
    const plain = draw(8, createRandom(3).uniform);
    const forks = ['crop', 'colour', 'cycle 1', 'cycle 2', 'cycle 12'].map((purpose) => random.fork(purpose).uniform());
    assert.equal(new Set(forks).size, forks.length);
    assert.deepEqual(draw(8, random.uniform), plain);
    assert.notEqual(random.fork('crop').uniform(), forks[0]);
  });

  test('many numbered forks do not overlap', () => {
    const random = createRandom(1);
    const states = Array.from({ length: 50_000 }, (_, step) => random.fork(`step ${step}`).state().join(' '));
    assert.equal(new Set(states).size, states.length);
  });

  test('uniform fills [0, 1) evenly', () => {
    const values = draw(40_000, createRandom(5).uniform);
    assert.ok(values.every((value) => value >= 0 && value < 1));
    const bins = Array.from(
      { length: 10 },
      (_, bin) => values.filter((value) => Math.floor(value * 10) === bin).length,
    );
    // Five standard deviations of a bin of 4000.
    assert.ok(
      bins.every((count) => Math.abs(count - 4000) < 300),
      bins.join(' '),
    );
  });

  test('between, chance and normal have the expected moments', () => {
    const random = createRandom(6);
    const between = draw(20_000, () => random.between(-2, 4));
    assert.ok(between.every((value) => value >= -2 && value < 4) && Math.abs(mean(between) - 1) < 0.06);
    assert.ok(Math.abs(mean(draw(20_000, () => (random.chance(0.3) ? 1 : 0))) - 0.3) < 0.02);
    const normal = draw(20_000, random.normal);
    assert.ok(Math.abs(mean(normal)) < 0.04 && Math.abs(mean(normal.map((value) => value ** 2)) - 1) < 0.06);
    assert.equal(random.chance(0), false);
    assert.equal(random.chance(1), true);
  });

  test('integer reaches every number and refuses invalid counts', () => {
    const random = createRandom(9);
    assert.deepEqual([...new Set(draw(200, () => random.integer(5)))].sort(), [0, 1, 2, 3, 4]);
    for (const count of [0, -1, 1.5, NaN, 2 ** 32 + 1]) assert.throws(() => random.integer(count), RangeError);
  });

  test('shuffled keeps every item, and reaches every order', () => {
    const random = createRandom(4);
    const orders = Array.from({ length: 600 }, () => random.shuffled(['a', 'b', 'c']).join(''));
    const counts = Map.groupBy(orders, (order) => order);
    assert.equal(counts.size, 6);
    assert.ok([...counts.values()].every((same) => same.length > 60 && same.length < 140));
    assert.deepEqual(random.shuffled([]), []);
  });
});
