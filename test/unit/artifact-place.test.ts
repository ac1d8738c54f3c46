/** With `--artifacts s3` every registry of the tests is in a bucket, but for those that are listed. */
import assert from 'node:assert/strict';
import { globSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, test } from 'node:test';
import { artifactPlaceOf, artifactVariables, BUCKET_VARIABLE, TESTS_OF_A_FOLDER } from '../support/artifact-place.ts';

const ROOT = path.resolve(import.meta.dirname, '..');
const OPENS_A_FOLDER =
  /openArtifactStore\((?:path\.join|base|folder|own|moved|storeDir|store\.location)\b|STORE_KINDS|PARAFFIN_ARTIFACTS_URL: ''/;

const given = process.env[BUCKET_VARIABLE];
afterEach(() => {
  if (given === undefined) delete process.env[BUCKET_VARIABLE];
  else process.env[BUCKET_VARIABLE] = given;
});

test('the tests that open a folder are those of the list', () => {
  const found = globSync('{integration,e2e}/*.test.ts', { cwd: ROOT })
    .filter((file) => OPENS_A_FOLDER.test(readFileSync(path.join(ROOT, file), 'utf8')))
    .map((file) => path.basename(file, '.test.ts'));
  assert.deepEqual(found.sort(), Object.keys(TESTS_OF_A_FOLDER).sort());
});

test('a registry is in the folder of its data, or below a prefix of its own that every process finds', () => {
  delete process.env[BUCKET_VARIABLE];
  assert.equal(artifactPlaceOf('/data'), '/data/artifacts');
  assert.deepEqual(artifactVariables('/data'), {});
  const bucket = { bucket: 'tests', endpoint: 'http://127.0.0.1:9', region: 'us-east-1' };
  process.env[BUCKET_VARIABLE] = JSON.stringify(bucket);
  const place = artifactPlaceOf('/data');
  assert.ok(typeof place !== 'string');
  assert.deepEqual({ ...place, prefix: undefined }, { ...bucket, pathStyle: true, prefix: undefined });
  assert.deepEqual(artifactPlaceOf('/data/'), place);
  assert.notDeepEqual(artifactPlaceOf('/other'), place);
  assert.equal(artifactVariables('/data')['PARAFFIN_ARTIFACTS_URL'], `s3://tests/${place.prefix}`);
});
