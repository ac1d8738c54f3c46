/** How the pages show numbers, and read the query string of a URL. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { parseSearch } from '../../web/src/app/search.ts';
import { bytes } from '../../web/src/ui/format.ts';

describe('a number of bytes', () => {
  test('is exact below a kilobyte', () => {
    assert.deepEqual([0, 1, 999].map(bytes), ['0 B', '1 B', '999 B']);
  });
  test('has at most three digits and no exponent, also just below the next unit', () => {
    for (const value of [1000, 12_345, 999_499, 999_500, 999_999, 999_999_999, 1e12 - 1, 5e14])
      assert.match(bytes(value), /^\d{1,3}(\.\d{1,2})? [kMGT]B$/, String(value));
    assert.equal(bytes(999_999), '1.00 MB');
  });
});

describe('the query string of a URL', () => {
  test('a name that appears twice gives a list', () => {
    assert.deepEqual(parseSearch('organ=BREAST&organ=LUNG&stain=HE'), { organ: ['BREAST', 'LUNG'], stain: 'HE' });
  });
  test('may have names that every object has', () => {
    assert.deepEqual(Object.entries(parseSearch('toString=1&constructor=2')), [
      ['toString', '1'],
      ['constructor', '2'],
    ]);
  });
});
