/** `paraffin launcher` as a process: what it checks at its start, and where it leaves secrets. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { chmod, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { after, before, describe, test, type TestContext } from 'node:test';
import { childEnvironment } from '../../src/env.ts';
import { openTestDatabase, type TestDatabase } from '../support/database.ts';
import { newKey } from '../support/keys.ts';
import { startTestServer, type TestServer } from '../support/server.ts';
import { temporaryFolder } from '../support/shards.ts';

const PARAFFIN = path.resolve(import.meta.dirname, '../../src/cli/main.ts');
const DATABASE_URL = 'postgresql://paraffin:hush%20hush@db/paraffin';

let database: TestDatabase;
let server: TestServer;
let key = '';

before(async () => {
  database = await openTestDatabase();
  server = await startTestServer(database);
  key = await newKey(server, { role: 'OPERATOR', actions: ['READ', 'LAUNCH', 'WORK'] });
});
after(async () => {
  await server.close();
  await database.close();
});

/** @param sbatch a shell script in place of Slurm's command. */
async function check(
  context: TestContext,
  sbatch: string,
  changes: { key?: string; template?: string; folder?: string } = {},
) {
  const folder = await temporaryFolder(context);
  const program = path.join(folder, 'sbatch');
  await writeFile(program, `#!/bin/bash\n(echo "$*"; env; cat) > ${folder}/seen\n${sbatch}\n`);
  await chmod(program, 0o755);
  await writeFile(path.join(folder, 'site.sbatch'), changes.template ?? '#SBATCH --partition=gpu\n');
  const env = childEnvironment({
    PATH: `${folder}:${childEnvironment({})['PATH']}`,
    PARAFFIN_URL: server.url,
    PARAFFIN_API_KEY: changes.key ?? key,
    PARAFFIN_DATABASE_URL: DATABASE_URL,
  });
  const words = ['launcher', '--slurm', '--check', '--folder', changes.folder ?? path.join(folder, 'jobs')];
  return new Promise<{ folder: string; code: number | null; output: string }>((resolve) => {
    const child = execFile(
      process.execPath,
      [PARAFFIN, ...words, '--template', path.join(folder, 'site.sbatch')],
      { env },
      (_error, stdout, stderr) => resolve({ folder, code: child.exitCode, output: stdout + stderr }),
    );
  });
}

test('it hands the settings over in a file that only its owner may read, and in nothing that Slurm stores', async (context) => {
  const { folder, code, output } = await check(context, 'exit 0');
  assert.equal(output, 'The cluster would take the jobs, and the server knows this launcher.\n');
  assert.equal(code, 0);
  const file = path.join(folder, 'jobs', 'worker.env');
  assert.equal((await stat(file)).mode & 0o777, 0o600);
  const settings = await readFile(file, 'utf8');
  assert.ok(settings.includes(`PARAFFIN_URL="${server.url}"\n`) && settings.includes(`PARAFFIN_API_KEY="${key}"\n`));
  assert.ok(!settings.includes('hush'), 'a job reaches the registry over HTTP, and no database');
  const seen = await readFile(path.join(folder, 'seen'), 'utf8');
  assert.match(seen, /^--parsable --no-requeue .*--test-only$/m);
  assert.ok(seen.includes(`--settings ${file}\n`));
  assert.ok(!seen.includes('hush') && !seen.includes(key));
  assert.deepEqual(await readdir(path.join(folder, 'jobs')), ['worker.env']);
});

describe('it does not begin', () => {
  test('with a template that Slurm refuses', async (context) => {
    const { code, output } = await check(
      context,
      'echo "sbatch: error: Batch job submission failed: Invalid partition name specified" >&2; exit 1',
    );
    assert.equal(code, 1);
    assert.match(
      output,
      /^sbatch --test-only refuses the template: Batch job .*: Invalid partition name specified\.\n/,
    );
  });

  test('with a template that sets what is its own', async (context) => {
    const { code, output } = await check(context, 'exit 0', { template: '#SBATCH --requeue\n#SBATCH -J mine\n' });
    assert.equal(code, 1);
    assert.match(output, /^line 1 of the template, "#SBATCH --requeue", sets an option that the launcher sets itself/);
    assert.match(output, /^line 2 of the template/m);
  });

  test('with a key with which its workers could take no run', async (context) => {
    const weak = await newKey(server, { role: 'OPERATOR', actions: ['READ', 'LAUNCH'] });
    const { code, output } = await check(context, 'exit 0', { key: weak });
    assert.equal(code, 1);
    assert.match(output, /^The key may not WORK\. Make one that may, with "paraffin keys add /);
  });

  test('where the folder of the jobs cannot be made', async (context) => {
    const { code, output } = await check(context, 'exit 0', { folder: '/dev/null/jobs' });
    assert.equal(code, 1);
    assert.match(output, /^The folder \/dev\/null\/jobs cannot be written: ENOTDIR/);
  });

  test('with a key that the server does not know', async (context) => {
    const { code, output } = await check(context, 'exit 0', { key: 'wrong' });
    assert.equal(code, 1);
    assert.match(output, /^The registry at http\S+ answered 401/);
  });
});
