/** The quick form of `npm run attack`, each kind of attack a test of its own. */
import assert from 'node:assert/strict';
import { randomInt } from 'node:crypto';
import { test } from 'node:test';
import { ATTACKS } from '../../attack/attacks.ts';
import { runCampaign } from '../../attack/campaign.ts';

test('nothing is found by any kind of attack', async () => {
  const seed = randomInt(2 ** 31 - 1);
  const { attacks } = await runCampaign({
    seed,
    quick: true,
    attacks: ATTACKS,
    signal: new AbortController().signal,
    onProgress: () => undefined,
  });
  assert.ok(attacks.every(({ tryCount }) => tryCount > 0));
  assert.deepEqual(
    attacks.flatMap(({ name, findings }) => findings.map((finding) => `${name}: ${finding}`)),
    [],
    `npm run attack -- --quick --seed ${seed}`,
  );
});
