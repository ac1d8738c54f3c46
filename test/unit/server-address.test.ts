/** Which key the command line sends to which server. */
import assert from 'node:assert/strict';
import { stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { before, describe, test } from 'node:test';
import { serverOf } from '../../src/cli/client/server-address.ts';
import { temporaryFolder } from '../support/shards.ts';

let owner = -1;
before(async (context) => {
  assert.ok('after' in context);
  const folder = await temporaryFolder(context);
  await writeFile(path.join(folder, 'admin-key'), 'pfn_secret\n', { mode: 0o600 });
  owner = (await stat(path.join(folder, 'admin-key'))).uid;
  process.env['PARAFFIN_DATA_DIR'] = folder;
  delete process.env['PARAFFIN_API_KEY'];
});

describe('the key in the data directory', () => {
  const keyFor = async (url: string, owners: readonly number[]): Promise<string | undefined> =>
    (await serverOf(url, () => owners)).key;

  for (const url of ['http://127.0.0.1:4000', 'http://localhost:4000', 'http://[::1]:4000', 'https://127.0.0.1'])
    test(`is sent to ${url} where it runs as the owner of the file, or as root`, async () => {
      assert.equal(await keyFor(url, [owner]), 'pfn_secret');
      assert.equal(await keyFor(url, [0]), 'pfn_secret');
    });
  test("is not sent to another user's server, even if ours listens beside it", async () => {
    await assert.rejects(keyFor('http://127.0.0.1:4000', [owner + 1]), /is not sent to it/);
    await assert.rejects(keyFor('http://localhost:4000', [owner, owner + 1]), /is not sent to it/);
  });
  test('is not sent if no server listens, or to another machine', async () => {
    assert.equal(await keyFor('http://127.0.0.1:4000', []), undefined);
    assert.equal(await keyFor('http://paraffin.example', [owner]), undefined);
    assert.equal(await keyFor('http://127.0.0.1.attacker.example', [owner]), undefined);
  });
  test('is not used if a key was given', async (context) => {
    process.env['PARAFFIN_API_KEY'] = 'pfn_given';
    context.after(() => delete process.env['PARAFFIN_API_KEY']);
    assert.equal(await keyFor('http://127.0.0.1:4000', [owner + 1]), 'pfn_given');
  });
});
