/**
 * docs/command-line.md: every command of the page is run in bash, in order, against a real server with a real worker.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { text } from 'node:stream/consumers';
import { after, before, describe, test } from 'node:test';
import { childEnvironment } from '../../src/env.ts';
import type { TestServer } from '../support/server.ts';
import { startWholeRegistry, type WholeRegistry } from '../support/whole-registry.ts';

const ROOT = path.resolve(import.meta.dirname, '../..');
const FENCE = /((?:<!-- .+ -->\n)*)```(\w*)\n([\s\S]*?)```/g;
/** Blocks that no test can run are exceptions to this test: each has a reason, and no others are allowed. */
const NOT_RUN_MAX = 1;

interface Block {
  readonly script: string;
  readonly exitCode: number;
  /** Why it cannot be run, if so. */
  readonly notRun: string | undefined;
}

const blocks = [...(await readFile(path.join(ROOT, 'docs/command-line.md'), 'utf8')).matchAll(FENCE)].map(
  ([, notes = '', language = '', script = '']): Block => {
    assert.equal(language, 'bash', script);
    return {
      script,
      exitCode: Number(/<!-- ends with: (\d+) -->/.exec(notes)?.[1] ?? 0),
      notRun: /<!-- not run: (.+) -->/.exec(notes)?.[1],
    };
  },
);
const runnable = blocks.filter((block) => block.notRun === undefined);

let registry: WholeRegistry;
let server: TestServer;
let desk = '';

before(async () => {
  registry = await startWholeRegistry('page');
  server = registry.server;
  desk = path.join(server.folder, 'desk');
  await mkdir(path.join(desk, 'bin'), { recursive: true });
  await writeFile(
    path.join(desk, 'bin/paraffin'),
    `#!/bin/sh\nexec '${process.execPath}' --disable-warning=ExperimentalWarning '${path.join(ROOT, 'src/cli/main.ts')}' "$@"\n`,
    { mode: 0o755 },
  );
});
after(() => registry.close());

describe('docs/command-line.md', () => {
  test('has blocks, nearly all of which can be run', () => {
    assert.ok(runnable.length >= 7, `${runnable.length}`);
    assert.ok(blocks.length - runnable.length <= NOT_RUN_MAX);
  });

  let broken: string | undefined;
  for (const { script, exitCode } of runnable) {
    const [title = ''] = script.split('\n');
    test(title, { timeout: 200_000 }, async () => {
      assert.equal(broken, undefined, `Not run, because it follows "${broken}", which failed.`);
      broken = title;
      const bash = spawn('bash', ['-euo', 'pipefail', '-c', script], {
        cwd: desk,
        env: childEnvironment({
          HOME: desk,
          PATH: `${path.join(desk, 'bin')}:${childEnvironment({})['PATH'] ?? ''}`,
          PARAFFIN_URL: server.url,
          PARAFFIN_API_KEY: server.adminKey,
          PARAFFIN_DATA_DIR: path.join(desk, '.paraffin'),
        }),
        stdio: ['ignore', 'pipe', 'pipe'],
      });
      const [stdout, stderr, code] = await Promise.all([
        text(bash.stdout),
        text(bash.stderr),
        new Promise<number | null>((resolve) => bash.on('exit', resolve)),
      ]);
      assert.equal(code, exitCode, `${stdout}\n${stderr}`);
      broken = undefined;
    });
  }

  test('leaves the files that the page names', async () => {
    const events = (await readFile(path.join(desk, 'events.jsonl'), 'utf8'))
      .trim()
      .split('\n')
      .map((line): unknown => JSON.parse(line));
    assert.ok(events.length >= 3);
    for (const file of [
      '.local/share/bash-completion/completions/paraffin',
      '.zshrc',
      '.config/fish/completions/paraffin.fish',
    ])
      assert.match(await readFile(path.join(desk, file), 'utf8'), /leaderboard/);
  });
});
