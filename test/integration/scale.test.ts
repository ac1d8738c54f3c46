/** `npm run scale`, small: ten thousand images through the real server and worker. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { text } from 'node:stream/consumers';
import { after, before, describe, test, type TestContext } from 'node:test';
import { diskNeedOf, STAGES } from '../../scale/plan.ts';
import { runManifestParts } from '../../scale/run-manifest.ts';
import { runScale, type ScaleOptions, type ScaleResult } from '../../scale/run.ts';
import { childEnvironment } from '../../src/env.ts';

const PROGRAM = path.resolve(import.meta.dirname, '../../scale/main.ts');
const SIZE = { imageCount: 10_000, testImageCount: 1000, seed: 1 };

async function folderOf(t: TestContext): Promise<string> {
  const folder = await mkdtemp(path.join(tmpdir(), 'paraffin-scale-test-'));
  t.after(() => rm(folder, { recursive: true }));
  return folder;
}

function optionsFor(folder: string, more: Partial<ScaleOptions> = {}): ScaleOptions {
  const signal = new AbortController().signal;
  return { folder, size: SIZE, stages: STAGES, signal, onProgress: () => undefined, ...more };
}

describe('ten thousand images', () => {
  let folder: string;
  let result: ScaleResult;
  before(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'paraffin-scale-test-'));
    // Each stage checks what came out of it: the images of both versions, and the copies that the leakage finds.
    result = await runScale(optionsFor(folder));
  });
  after(() => rm(folder, { recursive: true }));

  test('every part is measured', () => {
    const parts = STAGES.flatMap((stage) => result.stages[stage]?.parts ?? []);
    assert.deepEqual(
      parts.map(({ name, imageCount }) => [name, imageCount]),
      [
        ['draw', 11_000],
        ['import', 10_000],
        ['import of the tested', 1000],
        ['pretrain', 10_000],
        ['embed', 1000],
        ['evaluate with leakage', 1000],
      ],
    );
    for (const { name, durationMs, processorMs, peakBytes } of parts) {
      assert.ok(durationMs > 0 && processorMs > 0, name);
      if (name !== 'draw')
        for (const kind of ['SERVER', 'WORKER', 'RUN'] as const)
          assert.ok((peakBytes[kind] ?? 0) > 1e7, `${name} ${kind}`);
    }
    // Images are stored as they are, beside at least one header and their facts.
    const stored = parts.find(({ name }) => name === 'import')?.storedBytes ?? 0;
    assert.ok(stored > SIZE.imageCount * 3 * 512 && stored < diskNeedOf(SIZE).byteSize);
  });

  test('finished stages are not repeated, and those of another size are refused', async () => {
    const again = await runScale(optionsFor(folder, { onProgress: () => assert.fail('a stage was repeated') }));
    assert.deepEqual(again, { ...result, earlier: STAGES });
    await assert.rejects(
      runScale(optionsFor(folder, { size: { ...SIZE, seed: 2 } })),
      /belongs to a run with --images 10000 --test-images 1000 --seed 1/,
    );
  });
});

test('the parts that need only a manifest, each in a process of its own', async (t) => {
  const folder = await folderOf(t);
  const { signal } = new AbortController();
  const size = { imageCount: 20_000, testImageCount: 4000, seed: 1 };
  const seen = new Set<string>();
  // Each part checks what came out of it, among it the copies and the near duplicates.
  const parts = await runManifestParts({ folder, size, signal, onProgress: (part) => void seen.add(part) });
  assert.deepEqual(
    parts.map(({ name }) => name),
    ['write the manifest', 'read three columns', 'leakage by hashes', 'sampling order', 'first batch'],
  );
  for (const { name, durationMs, peakBytes } of parts) assert.ok(durationMs > 0 && (peakBytes.RUN ?? 0) > 1e7, name);
  assert.ok(seen.has('write the manifest'));
  const stopped = new AbortController();
  stopped.abort();
  await assert.rejects(runManifestParts({ folder, size, signal: stopped.signal, onProgress: () => undefined }), {
    name: 'AbortError',
  });
});

test('a stage whose earlier stages have not finished is refused before anything starts', async (t) => {
  const folder = await folderOf(t);
  await assert.rejects(runScale(optionsFor(folder, { stages: ['evaluate'] })), /needs draw/);
  assert.deepEqual(await readdir(folder), []);
});

test('Ctrl-C in the middle of an import stops everything and removes the folder', async (t) => {
  const base = await folderOf(t);
  const child = spawn(process.execPath, [PROGRAM, '--images', '10000', '--test-images', '1000'], {
    env: childEnvironment({ TMPDIR: base }),
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const exited = once(child, 'exit');
  let said = '';
  for await (const chunk of child.stderr.setEncoding('utf8')) {
    said += String(chunk);
    if (/^import/m.test(said)) child.kill('SIGINT');
  }
  assert.deepEqual(await exited, [130, null], said);
  assert.match(said, /Stopped\./);
  assert.deepEqual(await readdir(base), []);
});

test('invalid arguments are refused with the usage, and help has examples', async () => {
  const run = async (...words: readonly string[]) => {
    const child = spawn(process.execPath, [PROGRAM, ...words], { stdio: ['ignore', 'pipe', 'pipe'] });
    const [stdout, stderr, [code]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'exit')]);
    return { code, stdout, stderr };
  };
  const wrong = [
    [['--images', '1500'], /--images must be a multiple of 1000/],
    [['--images', 'many'], /--images must be a multiple of 1000/],
    [['--images', '1000', '--test-images', '3000'], /at most twice --images/],
    [['--stages', 'draw,fly'], /no stage called fly/],
    [['--report', '--stages', 'draw'], /--report needs all stages/],
    [['--seed', '-1'], /--seed/],
    [['--manifest-only', '--images', '15000'], /multiple of 10000/],
    [['--manifest-only', '--stages', 'draw'], /--stages/],
    [['--fast'], /--fast/],
  ] as const;
  const answers = await Promise.all(wrong.map(([words]) => run(...words)));
  for (const [place, [words, reason]] of wrong.entries()) {
    const { code, stderr } = answers[place] ?? assert.fail();
    assert.equal(code, 2, words.join(' '));
    assert.match(stderr, reason);
    assert.match(stderr, /usage: npm run scale/);
  }
  const help = await run('--help');
  assert.equal(help.code, 0);
  assert.match(help.stdout, /examples:\n {2}npm run scale\n/);
});
