/** What `paraffin datasets verify` says about the digest of a version. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { damageOfDigest, type SealedParts } from '../../src/cli/client/digest-of-version.ts';
import { createVersionDigest } from '../../src/formats/manifest/version-digest.ts';
import { accessBytes } from '../../src/formats/random-access.ts';
import { manifestBytes, manifestRow, manifestRows, shardByteSizesOf } from '../support/manifests.ts';

const rows = manifestRows(30);
const digest = createVersionDigest();
for (const row of rows) digest.add(row);
const VERSION: SealedParts = {
  digest: digest.finish(),
  digestRule: 'PIXELS',
  imageCount: 30,
  manifestSha256: 'ab'.repeat(32),
  shards: shardByteSizesOf(rows).map((byteSize) => ({ byteSize })),
};

test('a manifest of the images of the version is sound', async () => {
  assert.equal(await damageOfDigest(VERSION, accessBytes(await manifestBytes(rows))), undefined);
});

test('a manifest of other images is not, nor one of another number of them', async () => {
  const other = accessBytes(await manifestBytes([...rows.slice(0, 29), { ...manifestRow(29), label: 'other' }]));
  assert.match(
    (await damageOfDigest(VERSION, other)) ?? '',
    new RegExp(`^DIGEST_MISMATCH: .* and the version has the digest ${VERSION.digest}`),
  );
  const fewer = accessBytes(await manifestBytes(rows.slice(0, 29)));
  assert.match((await damageOfDigest(VERSION, fewer)) ?? '', /^MANIFEST_COUNT_MISMATCH: .* has 30 images.* lists 29/);
});

test('under the rule of older versions the digest is the sha256 of the manifest', async () => {
  const old: SealedParts = { ...VERSION, digestRule: 'MANIFEST_FILE' };
  assert.match((await damageOfDigest(old, accessBytes(Buffer.alloc(0)))) ?? '', /^DIGEST_MISMATCH/);
  assert.equal(await damageOfDigest({ ...old, digest: old.manifestSha256 }, accessBytes(Buffer.alloc(0))), undefined);
});
