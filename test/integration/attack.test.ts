/** The quick form of `npm run attack`: one kind of attack after another against real servers. */
import assert from 'node:assert/strict';
import { before, describe, test } from 'node:test';
import { ATTACKS } from '../../attack/attacks.ts';
import { runCampaign, type CampaignReport } from '../../attack/campaign.ts';

const SEED = 1;

describe('nothing is found by any kind of attack', () => {
  let report: CampaignReport;
  before(async () => {
    report = await runCampaign({
      seed: SEED,
      quick: true,
      attacks: ATTACKS,
      signal: new AbortController().signal,
      onProgress: () => undefined,
    });
  });
  for (const { name } of ATTACKS) {
    test(name, () => {
      const found = report.attacks.find((attack) => attack.name === name);
      assert.ok(found !== undefined);
      // An attack that this machine does not allow must report why.
      assert.ok(found.tryCount > 0 || (found.remarks ?? []).length > 0);
      assert.deepEqual(found.findings, [], `npm run attack -- --quick --only ${name} --seed ${SEED}`);
    });
  }
});
