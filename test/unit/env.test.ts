/** The configuration: defaults, and all errors reported together. */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, test } from 'node:test';
import { childEnvironment, EnvironmentError, isPrivateFile, readEnvironment } from '../../src/env.ts';
import { CONFIGURATION_PAGE, configurationPage } from '../../scripts/configuration-page.ts';

describe('environment', () => {
  test('defaults: loopback, port 4000, data below the working folder, reading without a key, one worker', () => {
    const env = readEnvironment({ XDG_CACHE_HOME: '/cache' });
    assert.deepEqual(env, {
      dataDir: path.resolve('.paraffin'),
      artifacts: path.resolve('.paraffin/artifacts'),
      s3: { endpoint: undefined, region: undefined, pathStyle: false },
      redirectDownloads: false,
      cacheDir: path.resolve('.paraffin/cache'),
      cacheBytes: 100 * 1024 ** 3,
      host: '127.0.0.1',
      port: 4000,
      databaseUrl: undefined,
      importRoots: [path.resolve('.paraffin/imports')],
      engineCacheDir: '/cache/paraffin/engine',
      uploadCacheDir: '/cache/paraffin/uploads',
      logLevel: 'info',
      requireAuth: false,
      allowPrivateUrls: false,
      maxUploadBytes: 64 * 1024 ** 3,
      withWorker: true,
      workerName: undefined,
      workerKinds: undefined,
      workerLabels: [],
      workerLongestSeconds: undefined,
      visibleGpus: undefined,
      codeRevision: undefined,
      cpuSlots: 1,
      stuckAfterSeconds: 900,
      publicUrl: undefined,
      trustedProxies: [],
      rateLimitPerMinute: 6_000,
      requestTimeoutMs: 30_000,
      sessionLifetimeMs: 43_200_000,
      introspection: true,
      landingPage: true,
      url: undefined,
      apiKey: undefined,
    });
  });

  test('what a worker says of itself: labels, and the longest run that it takes', () => {
    const { workerLabels, workerLongestSeconds } = readEnvironment({
      ...{ PARAFFIN_WORKER_LABELS: 'basel, a100', PARAFFIN_WORKER_LONGEST_MINUTES: '90' },
    });
    assert.deepEqual([workerLabels, workerLongestSeconds], [['a100', 'basel'], 5400]);
    assert.throws(() => readEnvironment({ PARAFFIN_WORKER_LABELS: 'a b' }), /PARAFFIN_WORKER_LABELS/);
  });

  test('an empty variable counts as not set', () => {
    assert.equal(readEnvironment({ PARAFFIN_PORT: '', PARAFFIN_DATABASE_URL: '' }).port, 4000);
  });

  test("import roots: the registry's own folder first, then each folder of the list, as absolute paths", () => {
    const { importRoots } = readEnvironment({
      PARAFFIN_DATA_DIR: '/data',
      PARAFFIN_IMPORT_ROOTS: `/slides${path.delimiter}${path.delimiter}images/../tiles`,
    });
    assert.deepEqual(importRoots, ['/data/imports', '/slides', path.resolve('tiles')]);
  });

  test('the data directory may be inside the project, but must not contain it', () => {
    for (const folder of ['.', '..', '/', path.dirname(path.resolve('.'))])
      assert.throws(() => readEnvironment({ PARAFFIN_DATA_DIR: folder }), /PARAFFIN_DATA_DIR: .* the program/, folder);
    for (const folder of ['data', `${path.resolve('.')}-data`])
      assert.equal(readEnvironment({ PARAFFIN_DATA_DIR: folder }).dataDir, path.resolve(folder));
  });

  test('a bucket: with or without a prefix, at Amazon by its name, elsewhere by its path', () => {
    const placeOf = (url: string, others: Readonly<Record<string, string>> = {}): unknown =>
      readEnvironment({ PARAFFIN_ARTIFACTS_URL: url, ...others }).artifacts;
    const amazon = { endpoint: undefined, region: undefined, pathStyle: false };
    assert.deepEqual(placeOf('s3://lab-bucket'), { bucket: 'lab-bucket', prefix: '', ...amazon });
    assert.deepEqual(placeOf('s3://lab.bucket/a//b/'), { bucket: 'lab.bucket', prefix: 'a/b', ...amazon });
    assert.deepEqual(placeOf('s3://lab/a', { PARAFFIN_S3_ENDPOINT: 'https://s3.lab/', PARAFFIN_S3_REGION: 'x' }), {
      ...{ bucket: 'lab', prefix: 'a', endpoint: 'https://s3.lab', region: 'x', pathStyle: true },
    });
    const { s3 } = readEnvironment({ PARAFFIN_S3_ENDPOINT: 'http://h:9', PARAFFIN_S3_PATH_STYLE: 'false' });
    assert.equal(s3.pathStyle, false);
    for (const wrong of [
      'lab-bucket/a',
      '/srv/artifacts',
      's3://',
      's3://Lab',
      's3://ab',
      'S3://lab',
      's3://lab/a?b=c',
    ])
      assert.throws(() => placeOf(wrong), /PARAFFIN_ARTIFACTS_URL: must be s3:/, wrong);
    for (const wrong of ['s3.lab', 'https://s3.lab/path', 'ftp://s3.lab'])
      assert.throws(() => readEnvironment({ PARAFFIN_S3_ENDPOINT: wrong }), /PARAFFIN_S3_ENDPOINT: must be/, wrong);
    for (const wrong of ['0', '-1', '1e9', '10 GB'])
      assert.throws(() => readEnvironment({ PARAFFIN_CACHE_BYTES: wrong }), /PARAFFIN_CACHE_BYTES: must be/, wrong);
  });

  test('flags are true, false, 1 or 0', () => {
    assert.deepEqual(
      ['true', '1', 'false', '0'].map((flag) => readEnvironment({ PARAFFIN_REQUIRE_AUTH: flag }).requireAuth),
      [true, true, false, false],
    );
  });

  test('proxies are addresses and subnets, joined by commas', () => {
    assert.deepEqual(readEnvironment({ PARAFFIN_TRUST_PROXY: '127.0.0.1, 10.0.0.0/8,fd00::/8' }).trustedProxies, [
      '127.0.0.1',
      '10.0.0.0/8',
      'fd00::/8',
    ]);
    for (const wrong of ['proxy.example', '10.0.0.0/33', '10.0.0/8', '127.0.0.1/'])
      assert.throws(() => readEnvironment({ PARAFFIN_TRUST_PROXY: wrong }), /PARAFFIN_TRUST_PROXY/, wrong);
  });

  test('all faults are reported together, each with its variable', () => {
    const faulty = {
      PARAFFIN_PORT: '65536',
      PARAFFIN_DATABASE_URL: 'mysql://db',
      PARAFFIN_LOG_LEVEL: 'loud',
      PARAFFIN_REQUIRE_AUTH: 'yes',
      PARAFFIN_WORKER: 'no',
    };
    assert.throws(
      () => readEnvironment(faulty),
      (error: unknown) => {
        assert.ok(error instanceof EnvironmentError);
        for (const name of Object.keys(faulty))
          assert.ok(error.message.includes(`  - ${name}: `), `${name} in ${error.message}`);
        assert.doesNotMatch(error.message, /mysql:\/\/db/, 'a url may hold a password');
        return true;
      },
    );
  });

  for (const port of ['-1', '4000.5', 'http', ' ']) {
    test(`port ${JSON.stringify(port)} is refused`, () => {
      assert.throws(() => readEnvironment({ PARAFFIN_PORT: port }), /PARAFFIN_PORT/);
    });
  }

  for (const hours of ['0', '-1', '1.5', '8761', '99999', 'day']) {
    test(`sessions of ${hours} hours are refused`, () => {
      assert.throws(() => readEnvironment({ PARAFFIN_SESSION_HOURS: hours }), /PARAFFIN_SESSION_HOURS: must be/);
    });
  }

  test('docs/configuration.md says what src/env.ts says', async () => {
    assert.equal(
      await readFile(CONFIGURATION_PAGE, 'utf8'),
      configurationPage(),
      'run "npm run generate" and commit docs/configuration.md',
    );
  });

  test('a child inherits the environment, and given values take precedence', () => {
    const inherited = childEnvironment({ PARAFFIN_LOG_LEVEL: 'silent' });
    assert.equal(inherited['PARAFFIN_LOG_LEVEL'], 'silent');
    assert.equal(inherited['PATH'], process.env['PATH']);
  });
});

describe('settings of a worker', () => {
  test('are in a file that its owner alone may read, or in one of root for a group, as Kubernetes mounts a Secret', () => {
    const [root, user] = [0, 1000];
    for (const mode of [0o400, 0o600, 0o100600]) assert.ok(isPrivateFile({ mode, uid: user }, user));
    for (const mode of [0o640, 0o440, 0o604]) assert.ok(!isPrivateFile({ mode, uid: user }, user));
    for (const mode of [0o400, 0o440, 0o640]) assert.ok(isPrivateFile({ mode, uid: root }, user));
    for (const mode of [0o444, 0o644, 0o660, 0o441]) assert.ok(!isPrivateFile({ mode, uid: root }, user));
    // Root itself needs no group.
    assert.ok(!isPrivateFile({ mode: 0o640, uid: root }, root));
  });

  test('the kinds of runs are a list of names, in any case', () => {
    assert.deepEqual(readEnvironment({ PARAFFIN_WORKER_KINDS: 'import, Export' }).workerKinds, ['IMPORT', 'EXPORT']);
    assert.throws(
      () => readEnvironment({ PARAFFIN_WORKER_KINDS: 'training' }),
      /PARAFFIN_WORKER_KINDS\.0: must be among/,
    );
  });
});
