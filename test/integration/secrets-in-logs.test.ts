/** The logs of a whole server at the most verbose level are searched for the keys that it handled. */
import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Writable } from 'node:stream';
import { after, before, test } from 'node:test';
import { pino } from 'pino';
import { WebSocket } from 'ws';
import { startApp, type App } from '../../src/app.ts';
import { readEnvironment } from '../../src/env.ts';
import { artifactVariables } from '../support/artifact-place.ts';
import { at } from '../support/catalogue.ts';
import { openTestDatabase, type TestDatabase } from '../support/database.ts';
import { eventually } from '../support/eventually.ts';

let database: TestDatabase;
let folder: string;
let app: App;
let log = '';

before(async () => {
  database = await openTestDatabase();
  folder = await mkdtemp(path.join(tmpdir(), 'paraffin-logs-'));
  const env = readEnvironment({
    PARAFFIN_DATA_DIR: folder,
    ...artifactVariables(folder),
    PARAFFIN_PORT: '0',
    PARAFFIN_DATABASE_URL: database.url,
    PARAFFIN_WORKER: 'false',
  });
  const sink = new Writable({
    write: (chunk, _encoding, done) => {
      log += String(chunk);
      done();
    },
  });
  app = await startApp(env, pino({ level: 'trace' }, sink));
});
after(async () => {
  await app.stop();
  await database.close();
  await rm(folder, { recursive: true, force: true });
});

test('no key and no session appears in the logs, complete or in part: not at the first start, for valid or wrong keys, in successes or failures', async () => {
  const adminKey = (await readFile(app.adminKeyFile, 'utf8')).trim();
  const wrongKey = `pfn_${'ab'.repeat(16)}_${'w'.repeat(43)}`;
  const post = async (key: string, query: string): Promise<unknown> =>
    (
      await fetch(`${app.url}/graphql`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', authorization: `Bearer ${key}` },
        body: JSON.stringify({ query }),
      })
    ).json();
  const made = String(
    at(
      await post(adminKey, 'mutation { createKey(input: { name: "k", owner: "o", role: READER }) { secret } }'),
      'data.createKey.secret',
    ),
  );

  const socketWith = async (authorization: string): Promise<void> => {
    const socket = new WebSocket(`${app.url.replace('http', 'ws')}/graphql`, 'graphql-transport-ws');
    await new Promise((resolve) => socket.once('open', resolve));
    const answered = new Promise((resolve) => {
      socket.once('message', resolve);
      socket.once('close', resolve);
    });
    socket.send(JSON.stringify({ type: 'connection_init', payload: { authorization } }));
    await answered;
    socket.terminate();
  };
  const signedIn = await fetch(`${app.url}/session`, { method: 'POST', headers: { authorization: `Bearer ${made}` } });
  const [, token = ''] = /=([^;]{43});/.exec(String(signedIn.headers.getSetCookie())) ?? [];
  assert.equal(token.length, 43);
  const wrongToken = 't'.repeat(43);
  const askWithCookie = async (value: string): Promise<void> => {
    const cookie = `paraffin-${new URL(app.url).port}=${value}`;
    const headers = { cookie, origin: app.url };
    await fetch(`${app.url}/metrics`, { headers });
    await fetch(`${app.url}/session`, { method: 'POST', headers });
    await fetch(`${app.url}/graphql`, {
      method: 'POST',
      headers: { ...headers, 'content-type': 'application/json' },
      body: JSON.stringify({ query: '{ viewer { role } models { totalCount } }' }),
    });
  };
  // The database fails while each of them is at work: failures are what is logged with the most detail.
  const ask = async (key: string): Promise<void> => {
    await post(key, '{ viewer { role } keys { totalCount } models { totalCount } }');
    await post(key, `{ dataset(slug: "${key}") { slug } }`);
    await post(key, `{ nonsense(key: "${key}") }`);
    await fetch(`${app.url}/metrics`, { headers: { authorization: `Bearer ${key}` } });
    await fetch(`${app.url}/metrics`, { headers: { authorization: `Token ${key}` } });
    await fetch(`${app.url}/artifacts/${'0'.repeat(64)}?token=${key}`);
    await fetch(`${app.url}/uploads`, {
      method: 'POST',
      headers: { authorization: `Bearer ${key}`, 'tus-resumable': '1.0.0', 'upload-length': '3' },
    });
    await socketWith(`Bearer ${key}`);
  };
  const everyKey = [adminKey, made, wrongKey];
  const everyToken = [token, wrongToken];
  for (const key of everyKey) await ask(key);
  for (const value of everyToken) await askWithCookie(value);
  await database.db.$executeRawUnsafe('ALTER TABLE "Model" RENAME TO "Model_away"');
  await database.db.$executeRawUnsafe('ALTER TABLE "AccessKey" RENAME COLUMN "salt" TO "salt_away"');
  await database.db.$executeRawUnsafe('ALTER TABLE "Session" RENAME COLUMN "address" TO "address_away"');
  try {
    for (const key of everyKey) await ask(key);
    for (const value of everyToken) await askWithCookie(value);
  } finally {
    await database.db.$executeRawUnsafe('ALTER TABLE "Model_away" RENAME TO "Model"');
    await database.db.$executeRawUnsafe('ALTER TABLE "AccessKey" RENAME COLUMN "salt_away" TO "salt"');
    await database.db.$executeRawUnsafe('ALTER TABLE "Session" RENAME COLUMN "address_away" TO "address"');
  }
  await eventually('failures in the log', () => (/"level":50/.test(log) ? true : undefined));
  for (const value of [...everyKey, ...everyToken]) {
    const secret = value.slice(-43);
    const line = log.split('\n').find((each) => each.includes(secret));
    assert.equal(line?.replaceAll(secret, '[SECRET]'), undefined);
  }
});
