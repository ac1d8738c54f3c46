/** The README's tour, run line by line in bash against a new server. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { text } from 'node:stream/consumers';
import { test } from 'node:test';
import { artifactVariables } from '../support/artifact-place.ts';

const ROOT = path.resolve(import.meta.dirname, '../..');
/** The parts of the project's folder that the tour uses; it creates everything else, in a folder that is deleted. */
const USED = ['package.json', 'package-lock.json', 'node_modules', 'prisma', 'scripts', 'src', 'workers'];
const TOUR_BLOCK = /<!-- tour -->\n```bash\n([\s\S]*?)```/g;

test('every line of the tour works when pasted', { timeout: 280_000 }, async () => {
  const folder = await mkdtemp(path.join(tmpdir(), 'paraffin-readme-'));
  for (const name of USED) await symlink(path.join(ROOT, name), path.join(folder, name));
  const server = spawn(process.execPath, [path.join(ROOT, 'src/cli/main.ts'), 'serve'], {
    cwd: folder,
    env: {
      ...process.env,
      PARAFFIN_DATA_DIR: path.join(folder, '.paraffin'),
      ...artifactVariables(path.join(folder, '.paraffin')),
      PARAFFIN_PORT: '0',
      PARAFFIN_LOG_LEVEL: 'error',
    },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const exited = once(server, 'exit');
  try {
    const address = await addressOf(server.stdout);
    const blocks = [...(await readFile(path.join(ROOT, 'README.md'), 'utf8')).matchAll(TOUR_BLOCK)].map(
      (match) => match[1] ?? '',
    );
    assert.ok(blocks.length >= 7, 'the README has a tour');
    const script = blocks.join('\n').replaceAll('127.0.0.1:4000', address);
    const bash = spawn('bash', ['-euo', 'pipefail', '-c', script], { cwd: folder, stdio: ['ignore', 'pipe', 'pipe'] });
    const [output, complaints, [code]] = await Promise.all([text(bash.stdout), text(bash.stderr), once(bash, 'exit')]);

    assert.equal(code, 0, complaints);
    assert.doesNotMatch(output, /"errors":/, 'no query of the tour is out of date');
    assert.equal(
      [...complaints.matchAll(/"status":"SUCCEEDED"/g)].length,
      3,
      'import, pretraining and evaluation succeed',
    );
    assert.match(output, /"name":"champion"/);
    assert.match(output, /"exports":\[\{"format":"ONNX","status":"AVAILABLE","maxRelativeDifference":/);
    assert.match(output, /"code":"BAD_INPUT","field":"input.batchSize"/);
    const registered = /"checkpoint":\{"sha256":"([0-9a-f]{64})"/.exec(output)?.[1] ?? 'none';
    assert.match(
      output,
      new RegExp(`^${registered}  encoder.safetensors$`, 'm'),
      'the download is what was registered',
    );
  } finally {
    server.kill('SIGINT');
    await exited;
    await rm(folder, { recursive: true, force: true });
  }
});

async function addressOf(output: NodeJS.ReadableStream): Promise<string> {
  for await (const line of createInterface({ input: output })) {
    const found = /http:\/\/(\S+)\/graphql/.exec(line);
    if (found?.[1] !== undefined) {
      output.resume();
      return found[1];
    }
  }
  throw new Error('The server ended without an address.');
}
