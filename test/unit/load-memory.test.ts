import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { summarise } from '../../load/memory.ts';

const samples = (live: (minute: number) => number, resident: (minute: number) => number) =>
  Array.from({ length: 21 }, (_, index) => ({
    atSeconds: index * 30,
    liveMegabytes: live(index / 2),
    residentMegabytes: resident(index / 2),
  }));

describe('memory growth under load', () => {
  it('a leak is detected by its slope, whatever single samples are', () => {
    const result = summarise(
      samples(
        (minute) => 60 + 3 * minute + (minute === 5 ? 200 : 0),
        (minute) => 400 + 30 * minute,
      ),
    );
    assert.equal(result.liveSlopePerMinute, 3);
    assert.deepEqual(result.residentPeaksMegabytes, [595, 700]);
  });

  it('growth during warm-up is not reported as a leak', () => {
    const result = summarise(
      samples(
        (minute) => Math.min(70, 50 + 10 * minute),
        (minute) => Math.min(500, 300 + 100 * minute),
      ),
    );
    assert.equal(result.liveSlopePerMinute, 0);
    assert.deepEqual(result.residentPeaksMegabytes, [500, 500]);
  });
});
