/**
 * The command line as a person uses it: every client command in its own process, with a real server and a real worker.
 */
import assert from 'node:assert/strict';
import { spawn, type ChildProcessByStdio } from 'node:child_process';
import { createHash } from 'node:crypto';
import { copyFile, mkdir, readFile, readdir, stat, truncate, writeFile } from 'node:fs/promises';
import { createServer, request } from 'node:http';
import path from 'node:path';
import type { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { after, before, describe, test } from 'node:test';
import type { CommandUnknownOpts } from '@commander-js/extra-typings';
import { z } from 'zod';
import { createProgram } from '../../src/cli/program.ts';
import { drawTissue } from '../../src/synthetic/tissue.ts';
import { childEnvironment } from '../../src/env.ts';
import { artifactVariables } from '../support/artifact-place.ts';
import { nameOf } from '../support/artifact-stage.ts';
import { eventually } from '../support/eventually.ts';
import { childrenOf, isAlive } from '../support/processes.ts';
import type { TestServer } from '../support/server.ts';
import { startWholeRegistry, type WholeRegistry } from '../support/whole-registry.ts';

const PROGRAM = path.resolve(import.meta.dirname, '../../src/cli/main.ts');

/** Deadline for a worker to start a run on a busy machine. */
const RUN_MS = 120_000;

interface Outcome {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

let registry: WholeRegistry;
let server: TestServer;
let folder = '';

before(async () => {
  registry = await startWholeRegistry('cli');
  server = registry.server;
  folder = path.join(server.folder, 'desk');
  await mkdir(folder);
  await drawTissue({
    outDir: path.join(server.folder, 'tissue'),
    imagesPerLabel: 6,
    imageSizePx: 40,
    seed: 3,
    groups: 3,
  });
});
after(() => registry.close());

interface Started {
  readonly pid: number;
  /** Output so far. */
  readonly output: { stdout: string; stderr: string };
  readonly outcome: Promise<Outcome>;
  interrupt(): void;
}

function started(child: ChildProcessByStdio<null, Readable, Readable>): Started {
  const output = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const)
    child[name].setEncoding('utf8').on('data', (words: string) => void (output[name] += words));
  const outcome = new Promise<Outcome>((resolve) => child.on('close', (code) => resolve({ code, ...output })));
  return { pid: child.pid ?? assert.fail('not started'), output, outcome, interrupt: () => void child.kill('SIGINT') };
}

/** Environment variables that control colours in addition to the terminal: with CI set, Node shows none. */
const COLOUR_VARIABLES = ['CI', 'COLORTERM', 'FORCE_COLOR', 'NO_COLOR', 'NODE_DISABLE_COLORS'];

/** Passes only the given variables, without the developer's own registry and colour settings; undefined unsets one. */
function environment(env: Readonly<Record<string, string | undefined>>): Record<string, string | undefined> {
  const inherited = Object.entries(
    childEnvironment({
      PARAFFIN_DATA_DIR: path.join(folder, 'no-registry'),
      PARAFFIN_URL: server.url,
      PARAFFIN_API_KEY: server.adminKey,
    }),
  );
  return { ...Object.fromEntries(inherited.filter(([name]) => !COLOUR_VARIABLES.includes(name))), ...env };
}

/** Starts the command without a terminal. */
function start(args: readonly string[], env: Readonly<Record<string, string | undefined>> = {}): Started {
  return started(
    spawn(process.execPath, ['--disable-warning=ExperimentalWarning', PROGRAM, ...args], {
      cwd: folder,
      env: environment(env),
      stdio: ['ignore', 'pipe', 'pipe'],
    }),
  );
}

function paraffin(args: readonly string[], env: Readonly<Record<string, string | undefined>> = {}): Promise<Outcome> {
  return start(args, env).outcome;
}

/** The same on a terminal, which shows both streams as one. */
function onTerminal(args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<Outcome> {
  const line = [process.execPath, '--disable-warning=ExperimentalWarning', PROGRAM, ...args]
    .map((word) => `'${word}'`)
    .join(' ');
  return started(
    spawn('script', ['--quiet', '--return', '--command', line, '/dev/null'], {
      cwd: folder,
      env: environment({ TERM: 'xterm-256color', ...env }),
      stdio: ['ignore', 'pipe', 'pipe'],
    }),
  ).outcome;
}

/** The result of a command that has to succeed. */
async function done(...args: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await paraffin(args);
  assert.equal(code, 0, `paraffin ${args.join(' ')} ended with ${code}: ${stderr}`);
  return stdout.trim();
}

interface SlowProxy {
  readonly url: string;
  /** The offset from which each part of an upload continued. */
  readonly offsets: readonly number[];
  /** From now on the proxy forwards everything. */
  open(): void;
  close(): void;
}

/** A proxy to the server that forwards only the first bytes of a download or an upload. */
async function startSlowProxy(): Promise<SlowProxy> {
  const firstBytes = 100_000;
  const offsets: number[] = [];
  let isOpen = false;
  const door = createServer((incoming, outgoing) => {
    if (incoming.url?.startsWith('/uploads') === true) {
      if (incoming.method === 'PATCH') offsets.push(Number(incoming.headers['upload-offset']));
      const inner = request(
        server.url + incoming.url,
        { method: incoming.method, headers: incoming.headers },
        (answered) => {
          outgoing.writeHead(answered.statusCode ?? 502, answered.headers);
          answered.pipe(outgoing);
        },
      );
      inner.on('error', () => outgoing.destroy());
      outgoing.on('close', () => inner.destroy());
      let passed = 0;
      incoming.on('data', (chunk: Buffer) => {
        if (isOpen) inner.write(chunk);
        else inner.write(chunk.subarray(0, Math.max(0, firstBytes - passed)));
        passed += chunk.length;
      });
      incoming.on('end', () => inner.end());
      return;
    }
    const pass = async (): Promise<void> => {
      const body = incoming.method === 'POST' ? await text(incoming) : null;
      const headers = Object.fromEntries(
        ['content-type', 'authorization', 'range', 'if-match'].flatMap((name) =>
          typeof incoming.headers[name] === 'string' ? [[name, incoming.headers[name]]] : [],
        ),
      );
      const response = await fetch(server.url + (incoming.url ?? ''), {
        method: incoming.method ?? 'GET',
        headers,
        body,
      });
      outgoing.writeHead(
        response.status,
        Object.fromEntries(
          [...response.headers].filter(
            ([name]) => name !== 'connection' && name !== 'content-encoding' && name !== 'transfer-encoding',
          ),
        ),
      );
      const bytes = Buffer.from(await response.arrayBuffer());
      if (bytes.length < 1_000_000) outgoing.end(bytes);
      else outgoing.write(bytes.subarray(0, firstBytes));
    };
    pass().catch((error: unknown) => outgoing.destroy(error instanceof Error ? error : undefined));
  });
  await new Promise<void>((resolve) => door.listen(0, '127.0.0.1', resolve));
  const address = door.address();
  assert.ok(typeof address === 'object' && address !== null);
  return {
    url: `http://127.0.0.1:${address.port}`,
    offsets,
    open: () => void (isOpen = true),
    close: () => {
      door.close();
      door.closeAllConnections();
    },
  };
}

async function answer<Data>(schema: z.ZodType<Data>, ...args: readonly string[]): Promise<Data> {
  return schema.parse(JSON.parse(await done(...args, '--json')));
}

describe('help', () => {
  test('every command has examples, and prints no help on standard error', async () => {
    const { stdout } = await paraffin(['--help']);
    for (const verb of [
      'serve',
      'worker',
      'demo',
      'datasets',
      'models',
      'download',
      'verify',
      'pretrain',
      'evaluate',
      'compare',
      'leaderboard',
      'runs',
      'keys',
      'backup',
      'restore',
      'fsck',
      'gc',
    ])
      assert.match(stdout, new RegExp(`^  ${verb} `, 'm'));
    const help = await paraffin(['datasets', 'import', '--help']);
    assert.deepEqual([help.code, help.stderr], [0, '']);
    assert.match(help.stdout, /Examples:\n {2}\$ paraffin datasets import /);
    const leaves = (node: CommandUnknownOpts, at: string): [string, CommandUnknownOpts][] =>
      node.commands.length === 0
        ? [[at, node]]
        : node.commands.flatMap((child) => leaves(child, `${at} ${child.name()}`));
    for (const [name, leaf] of leaves(createProgram('test'), 'paraffin')) {
      let shown = '';
      leaf.configureOutput({ writeOut: (words) => void (shown += words) }).outputHelp();
      assert.ok(shown.includes(`Examples:\n  $ ${name}`), `${name} has no example of itself`);
    }
  });

  test('a wrong command or option gets an explanation, exit code 2 and nothing on standard output', async () => {
    const invalidCommands: readonly string[][] = [
      ['datasets'],
      ['datasets', 'ls', '--kind', 'hologram'],
      ['pretrain', '--model', 'x', '--data', 'bach'],
      ['pretrain', '--model', 'x', '--data', 'bach', '--budget', '1h', '--steps', '5'],
      ['pretrain', '--model', 'x', '--data', 'bach', '--steps', '5', '--momentum', '0.9'],
      ['pretrain', '--model', 'x', '--data', 'bach', '--steps', '5', '--optimizer', 'rmsprop'],
      ['verify', 'no-such-file'],
    ];
    for (const { code, stdout, stderr } of await Promise.all(invalidCommands.map((wrong) => paraffin(wrong)))) {
      assert.deepEqual([code, stdout], [2, ''], stderr);
      assert.notEqual(stderr, '');
    }
  });
});

describe('the server and the key', () => {
  test('if no server answers, the exit code is 1 and the message says what to do', async () => {
    const { code, stderr } = await paraffin(['datasets', 'ls', '--url', 'http://127.0.0.1:9']);
    assert.equal(code, 1);
    assert.match(stderr, /The server at http:\/\/127\.0\.0\.1:9 does not answer\.\n.*--url/);
  });

  test('the key of this machine is sent to a server on this machine', async () => {
    const found = await paraffin(['keys', 'ls', '--quiet'], { PARAFFIN_API_KEY: '', PARAFFIN_DATA_DIR: server.folder });
    assert.equal(found.code, 0, found.stderr);
    const none = await paraffin(['keys', 'ls'], { PARAFFIN_API_KEY: '' });
    assert.equal(none.code, 1);
    assert.match(none.stderr, /^UNAUTHENTICATED/);
  });

  test('--print-query shows the operation on standard error, and only the result on standard output', async () => {
    const { stdout, stderr } = await paraffin(['datasets', 'ls', '--search', 'bach', '--print-query', '--quiet']);
    assert.equal(stdout, 'bach\n');
    assert.match(stderr, /query ListDatasets\(/);
    assert.match(stderr, /"search":"bach"/);
  });
});

describe('keys', () => {
  test('a key is created, works within its role, and is revoked', async () => {
    const secret = await done('keys', 'add', 'notebook', '--owner', 'ana', '--role', 'contributor', '--quiet');
    const made = await paraffin(['datasets', 'add', 'Made with a key of her own', '--quiet'], {
      PARAFFIN_API_KEY: secret,
    });
    assert.equal(made.stdout.trim(), 'made-with-a-key-of-her-own', made.stderr);
    const denied = await paraffin(['keys', 'ls'], { PARAFFIN_API_KEY: secret });
    assert.equal(denied.code, 1);
    assert.match(denied.stderr, /^FORBIDDEN/);
    const [key] = await answer(z.array(z.object({ id: z.string(), name: z.string() })), 'keys', 'ls', '--owner', 'ana');
    await done('keys', 'revoke', key?.id ?? '');
    assert.equal((await paraffin(['datasets', 'ls'], { PARAFFIN_API_KEY: secret })).code, 1);
    assert.equal(await done('keys', 'ls', '--owner', 'ana', '--quiet'), '');
  });
});

describe('from images to weights', () => {
  const runSchema = z.object({ id: z.string(), status: z.string() });
  let checkpoint = '';

  test('a dataset is found by its facts and shown with their evidence', async () => {
    const slugs = (
      await done('datasets', 'ls', '--organ', 'breast', '--stain', 'he', '--microns-per-pixel-max', '0.25', '--quiet')
    ).split('\n');
    assert.equal(slugs.length, 8);
    assert.match(await done('datasets', 'show', 'bach'), /Sources of the facts:\n {2}\S+: READ/);
    const missing = await paraffin(['datasets', 'show', 'nowhere']);
    assert.equal(missing.code, 1);
    assert.match(missing.stderr, /The dataset "nowhere" does not exist\.\nSearch for it: /);
  });

  test('images are catalogued, imported, listed with their problems, and read again', async () => {
    assert.equal(
      await done(
        'datasets',
        'add',
        'Desk tissue',
        '--stain',
        'he',
        '--task',
        'classification',
        '--synthetic',
        '--quiet',
      ),
      'desk-tissue',
    );
    assert.match(
      (await paraffin(['pretrain', '--model', 'm', '--data', 'desk-tissue', '--steps', '1'])).stderr,
      /desk-tissue has no images yet\.\nImport images: /,
    );
    const tissue = path.join(server.folder, 'tissue');
    const dryRun = await done('datasets', 'import', 'desk-tissue', tissue, '--dry-run');
    assert.match(dryRun, /^A dry run: (\d+) images of \1 files; nothing was registered\.\n/);
    assert.match(dryRun, /\ngland +gland +- +\d+\n/);
    assert.match(dryRun, /\ngroups: no known groups\n/);
    assert.match(
      dryRun,
      /\nNO_GROUPS \d+ \(kept\): .*\nWithout groups, .*\nTo give groups, .*\n--layout csv --labels-csv FILE .*\nAn import would seal this version\.$/s,
    );
    const column = [
      '--layout',
      'csv',
      '--labels-csv',
      path.join(tissue, 'labels.csv'),
      '--column',
      'group=',
      '--column',
    ];
    const chosen = await answer(
      z.object({ notes: z.array(z.string()), questions: z.array(z.string()) }),
      ...['datasets', 'import', 'desk-tissue', tissue, '--dry-run', ...column, 'label=group'],
    );
    assert.match(chosen.notes.join(' '), /label from "group"/);
    assert.match(await done('datasets', 'show', 'desk-tissue'), /No images have been imported yet/);
    const version = await answer(
      z.object({ id: z.string(), imageCount: z.number(), groupCount: z.number() }),
      'datasets',
      'import',
      'desk-tissue',
      path.join(server.folder, 'tissue'),
      '--layout',
      'csv',
      '--labels-csv',
      path.join(server.folder, 'tissue/labels.csv'),
    );
    assert.ok(version.imageCount > 0 && version.groupCount === 3, JSON.stringify(version));
    assert.match(await done('datasets', 'verify', 'desk-tissue@1'), /^desk-tissue@1 is intact: \d+ files/);
    assert.match(await done('datasets', 'show', 'desk-tissue'), /version 1 {2}SEALED/);
    const asked = await paraffin(['datasets', 'import', 'desk-tissue', tissue]);
    assert.equal(asked.code, 4);
    assert.match(asked.stderr, /IMPORT_NEEDS_ANSWER \(DATA\): .*FEWER_THAN_BEFORE: .*Version 1 had 3 groups/s);
    assert.match(asked.stderr, /accept: \[FEWER_THAN_BEFORE\] \(--accept/);
    const accepted = ['datasets', 'import', 'desk-tissue', tissue, '--dry-run', '--accept', 'fewer-than-before'];
    assert.match(await done(...accepted), /An import would seal this version\.$/);
    const refused = await paraffin(['datasets', 'import', 'desk-tissue', '/etc']);
    assert.equal(refused.code, 1);
    assert.match(refused.stderr, /^IMPORT_PATH_NOT_ALLOWED/);
  });

  test('a pretraining is watched: loss and images/s on standard error, the checkpoint on standard output', async () => {
    const { code, stdout, stderr } = await paraffin([
      'pretrain',
      '--model',
      'desk',
      '--data',
      'desk-tissue:30',
      '--steps',
      '6',
      '--image-size',
      '32',
      '--batch-size',
      '8',
      '--seed',
      '1',
      '--no-probe',
    ]);
    assert.equal(code, 0, stderr);
    assert.match(stderr, /\d+ %  step \d  loss \d\.\d{3}  \d+\.\d images\/s/);
    assert.match(stdout, /^desk@1 {2}checkpoint \S+, step 6, loss \d\.\d{3}, 44\.\d MB\n(?: {2}.*\n)*Evaluate it: /);
    checkpoint = /checkpoint ([0-9a-f-]{36})/.exec(stdout)?.[1] ?? '';
    const [run] = await answer(z.array(runSchema), 'runs', 'ls', '--kind', 'pretraining');
    assert.match(await done('runs', 'show', run?.id ?? ''), /made checkpoint desk@1/);
    assert.match(await done('runs', 'logs', run?.id ?? ''), /QUEUED[\s\S]*STARTED[\s\S]*SUCCEEDED/);
    assert.equal((await paraffin(['runs', 'wait', run?.id ?? ''])).code, 0);
    const over = await paraffin(['runs', 'cancel', run?.id ?? '']);
    assert.equal(over.code, 1);
    assert.match(over.stderr, /^RUN_NOT_CANCELABLE/);
  });

  test('a pretraining with only a budget chooses the rest, explains it, and ends within the budget', async () => {
    const budget = ['--model', 'in-time', '--data', 'desk-tissue', '--budget'];
    const unknown = await paraffin(['pretrain', ...budget, 'an hour']);
    assert.equal(unknown.code, 1);
    assert.match(unknown.stderr, /^BAD_INPUT[^\n]*"an hour" is not a duration/);
    const { code, stdout, stderr } = await paraffin(['pretrain', ...budget, '30s', '--seed', '1']);
    assert.equal(code, 0, stderr);
    assert.match(stdout, /^in-time@1 {2}checkpoint /);
    assert.match(stdout, /\n30 seconds at [\d.]+ images\/s: [\d,]+ steps of 16 images at \d+ px by views of \d+ px, /);
    assert.match(stdout, /\nAdamW at a peak learning rate of /);
    assert.match(stdout, /^in-time@1 .*\n {2}.* random encoder on desk-tissue@1/);
  });

  test('two evaluations, their difference, and the leaderboard', async () => {
    const shown = await done(
      'evaluate',
      'desk',
      '--data',
      'desk-tissue',
      '--folds',
      '3',
      '--seed',
      '1',
      '--resamples',
      '100',
    );
    assert.match(shown, /^metric +encoder +.*random encoder/);
    assert.match(shown, /macroF1 +\d\.\d{3} \[\d\.\d{3}, \d\.\d{3}\]/);
    const first = /evaluation ([0-9a-f-]{36})/.exec(shown)?.[1] ?? '';
    assert.match(shown, new RegExp(`golden image, 32 x 32 px, .* begins with -?\\d.*/evaluations/${first}$`, 'm'));
    await done('models', 'alias', 'desk', 'champion', 'desk@1');
    const { id: second, goldenImage } = await answer(
      z.object({ id: z.string(), goldenImage: z.object({ embedding: z.array(z.number()), url: z.url() }) }),
      'evaluate',
      'desk@champion',
      '--data',
      'desk-tissue@1',
      '--folds',
      '3',
      '--seed',
      '1',
      '--resamples',
      '100',
    );
    assert.equal(goldenImage.embedding.length, 512);
    assert.equal(goldenImage.url.split('/').at(-1), second);
    // The repeated request gives the same evaluation or a comparable one; either way the difference is zero.
    if (second !== first)
      assert.match(await done('compare', first, second), /macroF1 .*\+0\.000 \[\+0\.000, \+0\.000\]/);
    assert.equal((await paraffin(['leaderboard'])).code, 2);
    assert.equal(await done('leaderboard', '--data', 'desk-tissue@1', '--quiet'), checkpoint);
    assert.match(await done('leaderboard', 'desk-tissue'), /1 +desk@1 +resnet18 +\d\.\d{3}.* yes/);
  });

  test('a run continues after Ctrl-C, and the command says so; a cancel ends it, and "wait" reports that with exit code 4', async () => {
    const pretraining = start([
      'pretrain',
      '--model',
      'desk',
      '--data',
      'desk-tissue',
      '--steps',
      '50000',
      '--image-size',
      '32',
      '--batch-size',
      '8',
    ]);
    const id = await eventually('the run', () => /^run (\S+)$/m.exec(pretraining.output.stderr)?.[1], RUN_MS);
    await eventually('its first step', () => /loss \d/.exec(pretraining.output.stderr) ?? undefined, RUN_MS);
    const log = start(['runs', 'logs', '-f', id]);
    await eventually('its log', () => /STARTED/.exec(log.output.stdout) ?? undefined, RUN_MS);
    for (const watching of [pretraining, log]) {
      watching.interrupt();
      const { code, stderr } = await watching.outcome;
      assert.equal(code, 130, stderr);
      assert.match(stderr, new RegExp(`The run continues\\. Follow it again: paraffin runs logs -f ${id}\n`));
    }
    assert.equal((await answer(runSchema, 'runs', 'show', id)).status, 'RUNNING');
    await done('runs', 'cancel', id);
    const waited = await paraffin(['runs', 'wait', id]);
    assert.equal(waited.code, 4);
    assert.match(waited.stderr, /ended as CANCELED/);
  });

  test('weights are downloaded by name, resumed and verified; a file on disk is identified', async () => {
    const bytes = Number(await done('download', 'desk@champion', '--dry-run', '--quiet'));
    const file = await done('download', 'desk@champion', '--quiet');
    const whole = await readFile(path.join(folder, file));
    assert.equal(whole.length, bytes);
    const sha256 = createHash('sha256').update(whole).digest('hex');

    // A download that was interrupted half-way is resumed with the same result.
    await copyFile(path.join(folder, file), path.join(folder, `again.safetensors.${sha256.slice(0, 16)}.part`));
    await truncate(path.join(folder, `again.safetensors.${sha256.slice(0, 16)}.part`), 1000);
    await done('download', checkpoint, '--out', 'again.safetensors');
    assert.deepEqual(await readFile(path.join(folder, 'again.safetensors')), whole);
    assert.match(
      await done('verify', 'again.safetensors'),
      new RegExp(`is desk@1 as safetensors, whole: checkpoint ${checkpoint}`),
    );

    // A partial file with changed bytes: exit code 3, and no file gets the final name.
    await writeFile(path.join(folder, `bad.safetensors.${sha256.slice(0, 16)}.part`), Buffer.alloc(1000));
    const bad = await paraffin(['download', checkpoint, '--out', 'bad.safetensors']);
    assert.equal(bad.code, 3, bad.stderr);
    assert.deepEqual(
      (await readdir(folder)).filter((name) => name.startsWith('bad.')),
      [],
    );

    await writeFile(path.join(folder, 'again.safetensors'), whole.subarray(1));
    assert.equal((await paraffin(['verify', 'again.safetensors'])).code, 3);
    assert.equal((await paraffin(['verify', file, '--sha256', 'f'.repeat(64)])).code, 3);
    assert.equal(
      (await paraffin(['verify', file, '--sha256', sha256], { PARAFFIN_URL: 'http://127.0.0.1:9' })).code,
      0,
    );
    const nowhere = await paraffin(['download', checkpoint, '--out', 'no-such/folder/again.safetensors']);
    assert.equal(nowhere.code, 1);
    assert.equal(
      nowhere.stderr.trim(),
      "The folder no-such/folder does not exist.\nCreate it first: mkdir -p 'no-such/folder'",
    );
    const taken = await paraffin(['download', checkpoint, '--out', 'again.safetensors']);
    assert.equal(taken.code, 1);
    await done('download', checkpoint, '--out', 'again.safetensors', '--force');
  });

  test('Ctrl-C in a download leaves no file under the name, and the same command continues', async () => {
    const slow = await startSlowProxy();
    try {
      const download = start(['download', 'desk@1', '--out', 'slow.safetensors', '--url', slow.url]);
      const part = await eventually(
        'some bytes',
        async () => {
          const name = (await readdir(folder)).find((each) => each.startsWith('slow.'));
          return name !== undefined && (await stat(path.join(folder, name))).size > 0 ? name : undefined;
        },
        RUN_MS,
      );
      download.interrupt();
      const { code, stderr } = await download.outcome;
      assert.equal(code, 130);
      assert.match(stderr, /The download stopped at .* Run the same command again to continue\./);
      assert.match(part, /^slow\.safetensors\.[0-9a-f]{16}\.part$/);
      assert.deepEqual(
        (await readdir(folder)).filter((each) => each.startsWith('slow.')),
        [part],
      );
    } finally {
      slow.close();
    }
    await done('download', 'desk@1', '--out', 'slow.safetensors');
    assert.match(await done('verify', 'slow.safetensors', '--checkpoint', 'desk@1'), /whole/);
  });

  test('only a terminal shows colours and a progress line, and NO_COLOR turns the colours off', async () => {
    const download = (out: string): string[] => ['download', 'desk@1', '--out', out];
    const [shown, plain, piped] = await Promise.all([
      onTerminal(download('shown.safetensors')),
      onTerminal(download('plain.safetensors'), { NO_COLOR: '1' }),
      paraffin(download('piped.safetensors')),
    ]);
    const bold = '\u001b[1m';
    const again = '\r\u001b[2K[';
    assert.deepEqual(
      [shown, plain, piped].map(({ code }) => code),
      [0, 0, 0],
      JSON.stringify([shown, plain, piped]),
    );
    assert.ok(shown.stdout.includes(bold) && shown.stdout.includes(again), shown.stdout);
    assert.ok(!plain.stdout.includes(bold) && plain.stdout.includes(again), plain.stdout);
    assert.doesNotMatch(piped.stdout + piped.stderr, /\u001b|\r|\[#/);
  });

  test('local weights are imported by upload', async () => {
    const [file = ''] = (await readdir(folder)).filter((name) => /^desk-v1.*safetensors$/.test(name));
    const imported = await answer(
      z.object({ id: z.string(), encoder: z.string(), model: z.object({ slug: z.string() }) }),
      'models',
      'import',
      file,
      '--model',
      'brought',
      '--image-size',
      '32',
      '--mean',
      '0.5,0.5,0.5',
      '--std',
      '0.5,0.5,0.5',
    );
    assert.deepEqual([imported.encoder, imported.model.slug], ['RESNET18', 'brought']);
    assert.match(await done('models', 'show', 'brought'), /imported from/);
    const withoutContract = await paraffin(['models', 'import', file, '--model', 'brought']);
    assert.equal(withoutContract.code, 2);

    const uploads = (): Promise<string[]> => readdir(path.join(server.folder, 'uploads'));
    const uploadsBefore = await uploads();
    const contract = ['--image-size', '32', '--mean', '123.7,116.3,103.5', '--std', '0.5,0.5,0.5'];
    const wrong = await paraffin(['models', 'import', file, '--model', 'brought', ...contract]);
    assert.equal(wrong.code, 1);
    assert.match(wrong.stderr, /outside the value range/);
    assert.deepEqual(await uploads(), uploadsBefore, 'it is refused before any bytes are sent');
  });

  test('Ctrl-C in an upload leaves nothing incomplete, and the same command continues', async () => {
    const [file = ''] = (await readdir(folder)).filter((name) => /^desk-v1.*safetensors$/.test(name));
    const [uploads, cache] = [path.join(server.folder, 'uploads'), path.join(folder, 'cache')];
    const begun = async (): Promise<string[]> => (await readdir(uploads)).filter((name) => /^[0-9a-f]{32}$/.test(name));
    const slow = await startSlowProxy();
    const words = [
      'models',
      'import',
      file,
      '--model',
      'sent-slowly',
      '--image-size',
      '32',
      '--mean',
      '0.5,0.5,0.5',
      '--std',
      '0.5,0.5,0.5',
      '--url',
      slow.url,
    ];
    try {
      const stopped = start(words, { XDG_CACHE_HOME: cache });
      const size = await eventually(
        'some bytes',
        async () => {
          const [id] = await begun();
          const found = id === undefined ? 0 : (await stat(path.join(uploads, id))).size;
          return found > 0 ? found : undefined;
        },
        RUN_MS,
      );
      stopped.interrupt();
      const { code, stdout, stderr } = await stopped.outcome;
      assert.deepEqual([code, stdout], [130, '']);
      assert.match(stderr, /The upload was interrupted\. Run the same command again to continue\./);
      assert.equal((await paraffin(['models', 'show', 'sent-slowly'])).code, 1);

      slow.open();
      const again = await paraffin(words, { XDG_CACHE_HOME: cache });
      assert.equal(again.code, 0, again.stderr);
      assert.match(again.stderr, /The upload continues at \d.* of 44\.\d MB/);
      assert.deepEqual([slow.offsets[0], (slow.offsets[1] ?? 0) >= size], [0, true], slow.offsets.join(' '));
      // The import proves that all bytes are right: the command states their sha256 at the start.
      assert.match(await done('models', 'show', 'sent-slowly'), /version 1 .*\n(?:.*\n)+? {2}imported from /);
    } finally {
      slow.close();
    }
    // The upload leaves no file on either side.
    assert.deepEqual([await begun(), await readdir(path.join(cache, 'paraffin/uploads'))], [[], []]);
  });

  test('"datasets verify" ends with 3 if bytes changed in the registry', async () => {
    const dataset = await answer(
      z.object({ versions: z.object({ nodes: z.array(z.object({ id: z.string() })) }) }),
      'datasets',
      'show',
      'desk-tissue',
    );
    const asked = await server.ask(
      'query ($id: ID!) { node(id: $id) { ... on DatasetVersion { shards { sha256 byteSize } } } }',
      { id: dataset.versions.nodes[0]?.id },
    );
    const { shards } = z
      .object({ data: z.object({ node: z.object({ shards: z.array(z.object({ sha256: z.string() })) }) }) })
      .parse(asked).data.node;
    const sha256 = shards[0]?.sha256 ?? '';
    const bytes = await server.stored.read(nameOf(sha256));
    bytes[600] = (bytes[600] ?? 0) ^ 1;
    await server.stored.write(nameOf(sha256), bytes);
    const { code, stdout } = await paraffin(['datasets', 'verify', 'desk-tissue']);
    assert.equal(code, 3);
    assert.match(stdout, new RegExp(sha256));
  });
});

describe('worker', () => {
  test('waits for runs until Ctrl-C, and leaves nothing behind', async () => {
    const second = start(['worker', '--url', server.url], {
      PARAFFIN_API_KEY: server.adminKey,
      PARAFFIN_DATA_DIR: server.folder,
      ...artifactVariables(server.folder),
      PARAFFIN_LOG_LEVEL: 'info',
    });
    await eventually('the worker', () => /the worker waits for runs/.exec(second.output.stderr) ?? undefined, RUN_MS);
    const [process = assert.fail('no worker process')] = await childrenOf(second.pid);
    second.interrupt();
    const { code, stderr } = await second.outcome;
    assert.equal(code, 0, stderr);
    assert.match(stderr, /the worker is draining/);
    assert.equal(await isAlive(process), false);
  });

  test('says that it needs a registry and a key if none are given', async () => {
    const { code, stderr } = await paraffin(['worker'], { PARAFFIN_URL: undefined, PARAFFIN_API_KEY: undefined });
    assert.equal(code, 1);
    assert.match(stderr, /PARAFFIN_URL and PARAFFIN_API_KEY are not set/);
  });
});

describe('doctor', () => {
  test('reports the machine, and measures every device in its own process', async () => {
    const { code, stdout } = await paraffin(['doctor', '--json']);
    const report = z
      .object({
        engine: z.object({ version: z.string() }),
        devices: z
          .array(
            z.object({
              name: z.string(),
              matmulGflops: z.number().positive(),
              convolutionGflops: z.number().positive(),
            }),
          )
          .min(1),
        dataDir: z.object({ freeBytes: z.number().positive() }),
        problems: z.array(z.string()),
      })
      .parse(JSON.parse(stdout));
    // Whether problems exist (pages not built, disk full) depends on this machine; the exit code must report them.
    assert.equal(code, report.problems.length === 0 ? 0 : 1, report.problems.join('\n'));
  });
});

describe('completion', () => {
  test('bash completes commands, their children and their options, from the tree itself', async () => {
    const script = path.join(folder, 'completion.bash');
    await writeFile(script, await done('completion', 'bash'));
    const complete = async (words: readonly string[]): Promise<string[]> => {
      const child = spawn(
        'bash',
        [
          '--norc',
          '-c',
          `source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _paraffin; printf '%s\\n' "\${COMPREPLY[@]}"`,
          'bash',
          script,
          ...words,
        ],
        { stdio: ['ignore', 'pipe', 'inherit'] },
      );
      return (await text(child.stdout)).trim().split('\n');
    };
    assert.deepEqual(await complete(['paraffin', 'down']), ['download']);
    assert.deepEqual(await complete(['paraffin', 'runs', 're']), ['resume']);
    assert.deepEqual(await complete(['paraffin', 'download', '--dr']), ['--dry-run']);
    for (const shell of ['zsh', 'fish']) assert.match(await done('completion', shell), /leaderboard/);
  });
});
