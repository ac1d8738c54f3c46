/**
 * The README's tour with the program started as users start it: a folder of images becomes an encoder that can be
 * downloaded, Ctrl-C leaves no process behind, and all data is still there after the next start.
 */
import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, readFile, realpath, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { createClient } from 'graphql-ws';
import { WebSocket } from 'ws';
import { drawTissue } from '../../src/synthetic/tissue.ts';
import { childEnvironment } from '../../src/env.ts';
import { readSafetensors } from '../../src/formats/safetensors.ts';
import { artifactVariables } from '../support/artifact-place.ts';
import { at, listAt } from '../support/catalogue.ts';
import { eventually } from '../support/eventually.ts';
import { familyOf, isAlive, processGroupOf } from '../support/processes.ts';

const ROOT = path.resolve(import.meta.dirname, '../..');
const START_DEADLINE_MS = 60_000;
const RUN_DEADLINE_MS = 120_000;
const STEPS = 4;

interface Program {
  readonly url: string;
  readonly process: ChildProcess;
  readonly pid: number;
  /** Everything that the program wrote to standard output and standard error. */
  readonly output: () => string;
}

let base = '';
let program: Program;
let key = '';

const dataDir = (): string => path.join(base, 'data');

async function start(): Promise<Program> {
  const child = spawn(process.execPath, ['src/cli/main.ts', 'serve'], {
    cwd: ROOT,
    env: childEnvironment({
      PARAFFIN_DATA_DIR: dataDir(),
      ...artifactVariables(dataDir()),
      PARAFFIN_PORT: '0',
      PARAFFIN_HOST: '127.0.0.1',
      PARAFFIN_IMPORT_ROOTS: path.join(base, 'images'),
      PARAFFIN_LOG_LEVEL: 'warn',
      PARAFFIN_DATABASE_URL: '',
      PARAFFIN_REQUIRE_AUTH: '',
    }),
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (chunk: Buffer) => (output += chunk.toString('utf8')));
  const url = await eventually(
    'the address of the server',
    () => {
      assert.equal(child.exitCode, null, `The program ended at its start: ${output}`);
      return /Paraffin is at (http:\S+)\/ and/.exec(output)?.[1];
    },
    START_DEADLINE_MS,
  );
  assert.ok(child.pid !== undefined);
  return { url, process: child, pid: child.pid, output: () => output };
}

before(async () => {
  base = await realpath(await mkdtemp(path.join(tmpdir(), 'paraffin-story-')));
  await drawTissue({
    outDir: path.join(base, 'images', 'tissue'),
    imagesPerLabel: 8,
    imageSizePx: 48,
    seed: 11,
    groups: 4,
  });
  program = await start();
  key = (await readFile(path.join(dataDir(), 'admin-key'), 'utf8')).trim();
});
after(async () => {
  if (program.process.exitCode === null && program.process.signalCode === null) {
    const gone = once(program.process, 'exit');
    program.process.kill('SIGTERM');
    await gone;
  }
  await rm(base, { recursive: true, force: true });
});

async function post(query: string, variables: object, headers: Readonly<Record<string, string>>): Promise<unknown> {
  const response = await fetch(`${program.url}/graphql`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify({ query, variables }),
  });
  return response.json();
}

/** The data of one operation, sent with the key. */
async function ask(query: string, variables: object = {}): Promise<unknown> {
  const answer = await post(query, variables, { authorization: `Bearer ${key}` });
  assert.equal(at(answer, 'errors'), undefined, JSON.stringify(answer));
  return at(answer, 'data');
}

/** A mutation that must succeed. @returns its object. */
async function mutate(name: string, fields: string, inputType: string, input: object): Promise<unknown> {
  const data = await ask(
    `mutation ($input: ${inputType}!) { ${name}(input: $input) { ${fields} userErrors { code field message hint } } }`,
    { input },
  );
  assert.deepEqual(at(data, `${name}.userErrors`), [], JSON.stringify(data));
  return at(data, name);
}

async function ended(runId: string): Promise<unknown> {
  return eventually(
    'the run to end',
    async () => {
      const run = at(
        await ask(
          'query ($id: ID!) { run(id: $id) { status progress failure { code message } datasetVersion { id digest imageCount status } checkpoints { id } evaluation { id } } }',
          { id: runId },
        ),
        'run',
      );
      const status = String(at(run, 'status'));
      if (status === 'QUEUED' || status === 'RUNNING') return undefined;
      assert.equal(status, 'SUCCEEDED', JSON.stringify(run));
      return run;
    },
    RUN_DEADLINE_MS,
  );
}

async function follow(runId: string, afterSequence: number): Promise<unknown[]> {
  const client = createClient({
    url: `${program.url.replace('http', 'ws')}/graphql`,
    webSocketImpl: WebSocket,
    connectionParams: { authorization: `Bearer ${key}` },
  });
  const query =
    'subscription ($runId: ID!, $after: Int) { runEvents(runId: $runId, afterSequence: $after) { sequence kind status progress message metrics } }';
  const events: unknown[] = [];
  for await (const result of client.iterate({ query, variables: { runId, after: afterSequence } })) {
    assert.equal(result.errors, undefined, JSON.stringify(result.errors));
    events.push(at(result.data, 'runEvents'));
  }
  await client.dispose();
  return events;
}

describe('a folder of images becomes an encoder', () => {
  let datasetId = '';
  let versionId = '';
  let pretrainingId = '';
  let checkpointId = '';
  let weights: Buffer;

  test('the catalogue and the engine are available', async () => {
    const data = await ask(
      '{ datasets(first: 1) { totalCount } server { version engine { library device } } viewer { role } }',
    );
    assert.deepEqual([at(data, 'datasets.totalCount'), at(data, 'viewer.role')], [57, 'ADMIN']);
    assert.match(String(at(data, 'server.engine.library')), /tensorflow/i);
  });

  test('nothing is written without the key', async () => {
    const before = at(await ask('{ datasets(first: 1) { totalCount } }'), 'datasets.totalCount');
    const mutations = [
      'mutation { createDataset(input: { name: "No" }) { dataset { id } } }',
      'mutation { createModel(input: { slug: "no", name: "No" }) { model { id } } }',
      'mutation { importDatasetVersion(input: { datasetId: "x", path: "/" }) { run { id } } }',
      'mutation { launchPretraining(input: { modelSlug: "no", datasets: [], steps: 1 }) { run { id } } }',
      'mutation { launchEvaluation(input: { checkpointId: "x", datasetVersionId: "x" }) { run { id } } }',
      'mutation { cancelRun(id: "x") { run { id } } }',
      'mutation { resumeRun(id: "x") { run { id } } }',
      'mutation { setModelAlias(input: { modelSlug: "no", name: "champion" }) { model { id } } }',
      'mutation { updateDataset(input: { id: "x" }) { dataset { id } } }',
    ];
    for (const mutation of mutations)
      assert.equal(at(await post(mutation, {}, {}), 'errors.0.extensions.code'), 'UNAUTHENTICATED', mutation);
    assert.equal(at(await ask('{ datasets(first: 1) { totalCount } }'), 'datasets.totalCount'), before);
    assert.equal((await stat(path.join(dataDir(), 'admin-key'))).mode & 0o077, 0, 'the key is for its owner alone');
  });

  test('a dataset is created, and its images are imported and sealed', async () => {
    const made = await mutate('createDataset', 'dataset { id slug provenance }', 'CreateDatasetInput', {
      name: 'Story tissue',
      organs: ['breast'],
      stains: ['HE'],
      synthetic: true,
    });
    assert.deepEqual([at(made, 'dataset.slug'), at(made, 'dataset.provenance')], ['story-tissue', 'LOCAL']);
    datasetId = String(at(made, 'dataset.id'));
    const launched = await mutate('importDatasetVersion', 'run { id kind status }', 'ImportDatasetVersionInput', {
      datasetId,
      path: path.join(base, 'images', 'tissue'),
    });
    const run = await ended(String(at(launched, 'run.id')));
    assert.deepEqual([at(run, 'datasetVersion.status'), at(run, 'datasetVersion.imageCount')], ['SEALED', 32]);
    versionId = String(at(run, 'datasetVersion.id'));
    const thumbnail = await fetch(`${program.url}/datasets/${datasetId}/thumbnails/0.webp`);
    assert.deepEqual([thumbnail.status, thumbnail.headers.get('content-type')], [200, 'image/webp']);
  });

  test('a wrong request is answered with the reason, and nothing is launched', async () => {
    const input = {
      modelSlug: 'story',
      datasets: [{ datasetVersionId: versionId }],
      batchSize: 33,
      steps: 2,
      imageSizePx: 32,
    };
    const data = await ask(
      'mutation ($input: LaunchPretrainingInput!) { launchPretraining(input: $input) { run { id } userErrors { code field hint } } }',
      { input },
    );
    assert.equal(at(data, 'launchPretraining.run'), null);
    assert.deepEqual(
      [at(data, 'launchPretraining.userErrors.0.code'), at(data, 'launchPretraining.userErrors.0.field')],
      ['DATASET_TOO_SMALL', 'input.batchSize'],
    );
  });

  test('a pretraining is followed live, from the first event to the last', async () => {
    const input = {
      modelSlug: 'story',
      datasets: [{ datasetVersionId: versionId }],
      batchSize: 8,
      steps: STEPS,
      imageSizePx: 32,
      seed: 5,
      idempotencyKey: 'story-1',
    };
    const launched = await mutate('launchPretraining', 'run { id }', 'LaunchPretrainingInput', input);
    pretrainingId = String(at(launched, 'run.id'));
    const again = await mutate('launchPretraining', 'run { id }', 'LaunchPretrainingInput', input);
    assert.equal(at(again, 'run.id'), pretrainingId);
    const events = await follow(pretrainingId, 0);
    assert.deepEqual(
      events.map((event) => at(event, 'sequence')),
      events.map((_, index) => index + 1),
    );
    assert.deepEqual(
      [at(events[0], 'kind'), at(events.at(-1), 'status'), at(events.at(-1), 'progress')],
      ['QUEUED', 'SUCCEEDED', 1],
    );
    assert.ok(events.some((event) => typeof at(event, 'metrics.loss') === 'number'));
    assert.deepEqual(
      (await follow(pretrainingId, events.length - 1)).map((event) => at(event, 'sequence')),
      [events.length],
    );
  });

  test('its metrics and its checkpoint record how it was made', async () => {
    const data = await ask(
      `query ($id: ID!) { run(id: $id) { config environment metrics(names: ["loss"]) { points { step value } }
        checkpoints { id step encoder embeddingDim sha256 byteSize formats downloadUrl model { slug } trainedOn { id } sourceRun { id } inputContract { imageSizePx channelMean } } } }`,
      { id: pretrainingId },
    );
    assert.equal(listAt(data, 'run.metrics.0.points').length, STEPS);
    assert.equal(at(data, 'run.config.seed'), 5);
    assert.match(JSON.stringify(at(data, 'run.environment')), /tensorflow/i);
    const checkpoint = at(data, 'run.checkpoints.0');
    assert.deepEqual(
      [
        at(checkpoint, 'step'),
        at(checkpoint, 'embeddingDim'),
        at(checkpoint, 'model.slug'),
        at(checkpoint, 'inputContract.imageSizePx'),
      ],
      [STEPS, 512, 'story', 32],
    );
    assert.deepEqual([at(checkpoint, 'trainedOn.0.id'), at(checkpoint, 'sourceRun.id')], [versionId, pretrainingId]);
    checkpointId = String(at(checkpoint, 'id'));
  });

  test("its weights are downloaded, in one piece and in two, and match the registry's digest", async () => {
    const checkpoint = at(
      await ask('query ($id: ID!) { checkpoint(id: $id) { sha256 byteSize downloadUrl } }', { id: checkpointId }),
      'checkpoint',
    );
    const url = new URL(String(at(checkpoint, 'downloadUrl')), program.url);
    const whole = await fetch(url);
    weights = Buffer.from(await whole.arrayBuffer());
    assert.equal(whole.headers.get('etag'), `"${String(at(checkpoint, 'sha256'))}"`);
    assert.equal(createHash('sha256').update(weights).digest('hex'), at(checkpoint, 'sha256'));
    assert.equal(weights.length, at(checkpoint, 'byteSize'));
    assert.ok(readSafetensors(weights).tensors.some((tensor) => tensor.name === 'layer4.1.conv2.weight'));
    const rest = await fetch(url, {
      headers: { range: 'bytes=1000000-', 'if-range': whole.headers.get('etag') ?? '' },
    });
    assert.equal(rest.status, 206);
    assert.ok(Buffer.concat([weights.subarray(0, 1_000_000), Buffer.from(await rest.arrayBuffer())]).equals(weights));
    assert.equal((await fetch(url, { headers: { range: `bytes=${weights.length}-` } })).status, 416);
  });

  test('they are downloaded for another framework, with the digest of the checked file', async () => {
    const onnx = await fetch(new URL(`/checkpoints/${checkpointId}/download?format=onnx`, program.url));
    assert.equal(onnx.status, 200);
    const sha256 = createHash('sha256')
      .update(Buffer.from(await onnx.arrayBuffer()))
      .digest('hex');
    assert.equal(onnx.headers.get('etag'), `"${sha256}"`);
    const [made] = listAt(
      await ask('query ($id: ID!) { checkpoint(id: $id) { exports { format status sha256 maxRelativeDifference } } }', {
        id: checkpointId,
      }),
      'checkpoint.exports',
    );
    assert.deepEqual([at(made, 'format'), at(made, 'status'), at(made, 'sha256')], ['ONNX', 'AVAILABLE', sha256]);
    assert.ok(Number(at(made, 'maxRelativeDifference')) <= 1e-4);
  });

  test('it is evaluated, ranked, and made champion', async () => {
    const launched = await mutate('launchEvaluation', 'run { id }', 'LaunchEvaluationInput', {
      checkpointId,
      datasetVersionId: versionId,
      folds: 4,
      seed: 1,
      options: { bootstrapResamples: 100 },
    });
    await ended(String(at(launched, 'run.id')));
    const rows = listAt(
      await ask(
        'query ($id: ID!) { leaderboard(datasetVersionId: $id, protocol: LINEAR_PROBE) { rank checkpoint { id } metric { name value ci95Low ci95High } overlapsPretraining evaluation { confusionMatrix { counts } baselines { kind } caveats { kind count kept meaning } } } }',
        { id: versionId },
      ),
      'leaderboard',
    );
    assert.deepEqual(
      [
        rows.length,
        at(rows[0], 'rank'),
        at(rows[0], 'checkpoint.id'),
        at(rows[0], 'metric.name'),
        at(rows[0], 'overlapsPretraining'),
      ],
      [1, 1, checkpointId, 'macroF1', true],
    );
    assert.deepEqual(
      listAt(rows[0], 'evaluation.baselines').map((baseline) => at(baseline, 'kind')),
      ['RANDOM_ENCODER', 'COLOUR_STATISTICS', 'MAJORITY_CLASS'],
    );
    // The images came from folders without patients, so the score has that caveat.
    const caveats = listAt(rows[0], 'evaluation.caveats');
    assert.deepEqual(
      caveats.map((caveat) => [at(caveat, 'kind'), at(caveat, 'count'), at(caveat, 'kept')]),
      [['NO_GROUPS', 32, true]],
    );
    assert.match(String(at(caveats[0], 'meaning')), /images of one patient may be in training and test/);
    const alias = await mutate('setModelAlias', 'model { aliases { name checkpoint { id } } }', 'SetModelAliasInput', {
      modelSlug: 'story',
      name: 'champion',
      checkpointId,
    });
    assert.deepEqual(at(alias, 'model.aliases'), [{ name: 'champion', checkpoint: { id: checkpointId } }]);
  });

  test('Ctrl-C in the middle of a training, with an open subscription, ends with code 0 and leaves no process', async () => {
    const launched = await mutate('launchPretraining', 'run { id }', 'LaunchPretrainingInput', {
      modelSlug: 'night',
      datasets: [{ datasetVersionId: versionId }],
      batchSize: 8,
      steps: 5000,
      imageSizePx: 32,
      checkpointEverySteps: 5000,
    });
    const runId = String(at(launched, 'run.id'));
    const client = createClient({
      url: `${program.url.replace('http', 'ws')}/graphql`,
      webSocketImpl: WebSocket,
      retryAttempts: 0,
      lazyCloseTimeout: 0,
    });
    let heard = 0;
    const over = new Promise<void>((resolve) => {
      client.subscribe(
        { query: `subscription { runEvents(runId: "${runId}") { sequence metrics } }` },
        {
          next: (result) => void (at(result, 'data.runEvents.metrics') !== null && (heard += 1)),
          error: () => resolve(),
          complete: () => resolve(),
        },
      );
    });
    await eventually('the first step', () => (heard > 0 ? true : undefined), RUN_DEADLINE_MS);
    const family = await familyOf(program.pid);
    const postgresPid = Number(
      (await readFile(path.join(dataDir(), 'postgres', 'cluster', 'postmaster.pid'), 'utf8')).split('\n', 1).join(''),
    );
    assert.ok(family.length >= 3, 'server, worker and child');
    const gone = once(program.process, 'exit');
    // A terminal sends the signal to every process of the foreground group.
    const group = await processGroupOf(program.pid);
    for (const pid of family) if ((await processGroupOf(pid)) === group) process.kill(pid, 'SIGINT');
    assert.deepEqual(await gone, [0, null], program.output());
    await over;
    assert.deepEqual(
      await Promise.all([...family, postgresPid].map(isAlive)),
      [...family, postgresPid].map(() => false),
    );
    assert.doesNotMatch(program.output(), /"level":(50|60)/, 'a clean stop logs no error');
  });

  test('the next start finds everything again, and the training continues from where it was', async () => {
    program = await start();
    const data = await ask(
      'query ($id: ID!) { checkpoint(id: $id) { sha256 model { aliases { name } } evaluations { totalCount } } runs { nodes { id kind status } } }',
      { id: checkpointId },
    );
    assert.deepEqual(
      [at(data, 'checkpoint.model.aliases.0.name'), at(data, 'checkpoint.evaluations.totalCount')],
      ['champion', 1],
    );
    const night = listAt(data, 'runs.nodes').at(0);
    const runId = String(at(night, 'id'));
    const onward = await eventually(
      'the next attempt',
      async () => {
        const run = at(await ask('query ($id: ID!) { run(id: $id) { status attempt } }', { id: runId }), 'run');
        return Number(at(run, 'attempt')) >= 2 && at(run, 'status') === 'RUNNING' ? run : undefined;
      },
      RUN_DEADLINE_MS,
    );
    assert.equal(at(onward, 'attempt'), 2);
    await ask('mutation ($id: ID!) { cancelRun(id: $id) { run { status } } }', { id: runId });
    await eventually(
      'the run to be CANCELED',
      async () =>
        at(await ask('query ($id: ID!) { run(id: $id) { status } }', { id: runId }), 'run.status') === 'CANCELED'
          ? true
          : undefined,
      15_000,
    );
    const download = await fetch(`${program.url}/checkpoints/${checkpointId}/download`);
    assert.ok(Buffer.from(await download.arrayBuffer()).equals(weights));
  });

  test('a second program on the same folder is refused, and the first one continues', async () => {
    const second = spawn(process.execPath, ['src/cli/main.ts', 'serve'], {
      cwd: ROOT,
      env: childEnvironment({
        ...{ PARAFFIN_DATA_DIR: dataDir(), PARAFFIN_PORT: '0', PARAFFIN_DATABASE_URL: '' },
        ...artifactVariables(dataDir()),
      }),
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    let words = '';
    second.stderr.on('data', (chunk: Buffer) => (words += chunk.toString('utf8')));
    assert.deepEqual(await once(second, 'exit'), [1, null]);
    assert.match(words, /Another Paraffin server uses/);
    assert.deepEqual(await (await fetch(`${program.url}/readyz`)).json(), { status: 'ready' });
  });
});
