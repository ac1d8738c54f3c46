/** When a server that has just started begins to look for dead workers. */
import assert from 'node:assert/strict';
import { setImmediate as settled } from 'node:timers/promises';
import { test } from 'node:test';
import { createHeardWorkers, startReaper } from '../../src/modules/runs/index.ts';
import { LEASE_SECONDS } from '../../src/protocol/runs.ts';

test('workers have the length of a lease to be heard by a server that has just started', async (context) => {
  context.mock.timers.enable({ apis: ['setInterval'] });
  let checkCount = 0;
  let signOnCount = 0;
  let isSignedOff = false;
  const reaper = startReaper({
    ledger: {
      requeueExpired: () => {
        checkCount += 1;
        return Promise.resolve(0);
      },
      signOn: () => {
        signOnCount += 1;
        return Promise.resolve();
      },
      signOff: () => {
        isSignedOff = true;
        return Promise.resolve();
      },
    },
    serverId: 'mine',
    heard: createHeardWorkers(),
    onReaped: () => undefined,
    onError: () => undefined,
  });
  assert.equal(signOnCount, 1, 'other servers wait from its start on');
  const checksAfter = async (ms: number): Promise<number> => {
    context.mock.timers.tick(ms);
    await settled();
    return checkCount;
  };
  assert.equal(await checksAfter(LEASE_SECONDS * 1000 - 1), 0);
  assert.equal(await checksAfter(1), 1);
  assert.equal(await checksAfter(2_000), 2, 'from then on every two seconds');
  assert.equal(isSignedOff, false);
  await reaper.stop();
  assert.equal(isSignedOff, true, 'other servers need not wait for it');
  assert.equal(await checksAfter(60_000), 2);
});
