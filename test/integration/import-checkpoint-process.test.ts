/** The process that reads a file of weights ends after any file, and has no access to anything else. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtemp, open, readdir, readFile, rm, writeFile, type FileHandle } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { promisify } from 'node:util';
import { DomainError } from '../../src/errors.ts';
import type { EncoderFileTask } from '../../src/modules/models/encoder-file.ts';
import { readEncoderFileInSandbox, type ReadingBounds } from '../../src/modules/models/encoder-process.ts';
import { readPermissionFlags } from '../../src/platform/sandbox.ts';
import { archive, legacy, op, pickle } from '../fixtures/hostile/torch-files.ts';
import { INPUT_CONTRACT } from '../support/checkpoints.ts';
import { lightningFile, someEncoder } from '../support/encoder-files.ts';
import { eventually } from '../support/eventually.ts';
import { childrenOf } from '../support/processes.ts';
import { readEncoderInMemory } from '../support/weights-sink.ts';

let folder = '';
before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'paraffin-reading-'));
});
after(() => rm(folder, { recursive: true, force: true }));

const scratchDir = (): string => path.join(folder, 'scratch');

const TASK: EncoderFileTask = {
  fileName: null,
  expectedSha256: null,
  expectedByteSize: null,
  encoder: null,
  network: null,
  keyPrefix: null,
  specification: null,
  inputContract: INPUT_CONTRACT,
};

async function fileOf(bytes: Uint8Array): Promise<FileHandle> {
  const file = path.join(folder, 'weights');
  await writeFile(file, bytes);
  return open(file);
}

const BOUNDS: ReadingBounds = { timeoutMs: 120_000, maxHeapMb: 768 };

async function sha256Of(bytes: AsyncIterable<Uint8Array>): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of bytes) hash.update(chunk);
  return hash.digest('hex');
}

async function faultOf(bytes: Uint8Array, bounds: Partial<ReadingBounds> = {}): Promise<DomainError> {
  await using file = await fileOf(bytes);
  const error = await readEncoderFileInSandbox([file], TASK, scratchDir(), sha256Of, { ...BOUNDS, ...bounds }).then(
    () => assert.fail('it was read'),
    (reason: unknown) => reason,
  );
  assert.ok(error instanceof DomainError, String(error));
  return error;
}

test('the process returns the same bytes as the reader in-process', async () => {
  await using file = await fileOf(lightningFile(someEncoder('RESNET34'), ''));
  const here = await readEncoderInMemory([file.fd], TASK);
  let turns = 0;
  const counting = setInterval(() => (turns += 1), 5);
  const { facts, kept } = await readEncoderFileInSandbox([file], TASK, scratchDir(), sha256Of, BOUNDS);
  clearInterval(counting);
  const { bytes, byteSize, ...factsHere } = here;
  assert.equal(byteSize, bytes.length);
  assert.deepEqual(facts, factsHere);
  assert.equal(kept, createHash('sha256').update(bytes).digest('hex'));
  assert.ok(turns > 10, `the event loop ran ${turns} timers meanwhile`);
});

test('a file that takes too long is abandoned, and its process killed', async () => {
  assert.equal((await faultOf(lightningFile(someEncoder('RESNET18'), ''), { timeoutMs: 1 })).code, 'TIMED_OUT');
  assert.deepEqual(await childrenOf(process.pid), []);
});

test('a file that takes too much memory ends only its own process', async () => {
  // Three million entries of a list, which JavaScript keeps at eight bytes each and copies as it grows.
  const list = archive(pickle(Buffer.from(`](${'K\x01'.repeat(1_000_000)}e`, 'latin1')));
  assert.equal((await faultOf(list, { maxHeapMb: 12 })).code, 'OUT_OF_MEMORY');
});

test('an error while storing the weights is reported, and the process ends', async () => {
  await using file = await fileOf(lightningFile(someEncoder('RESNET18'), ''));
  await assert.rejects(
    readEncoderFileInSandbox([file], TASK, scratchDir(), () => Promise.reject(new Error('no space left')), BOUNDS),
    /no space left/,
  );
  assert.deepEqual(await childrenOf(process.pid), []);
  assert.deepEqual(await readdir(scratchDir()), []);
});

/** The process that reads the file, once it runs its program. */
async function readingProcess(): Promise<number> {
  return eventually('the reading process', async () => {
    for (const pid of await childrenOf(process.pid))
      if ((await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')).includes('encoder-file.program')) return pid;
    return undefined;
  });
}

test('a process that dies gives an error, and leaves no weights', async () => {
  await using file = await fileOf(lightningFile(someEncoder('RESNET34'), ''));
  const reading = readEncoderFileInSandbox([file], TASK, scratchDir(), () => assert.fail('kept'), BOUNDS);
  const failed = assert.rejects(reading, /The reading process ended with SIGKILL/);
  process.kill(await readingProcess(), 'SIGKILL');
  await failed;
  assert.deepEqual(await readdir(scratchDir()), []);
});

test("the process knows none of the server's secrets", async (context) => {
  process.env['PARAFFIN_DATABASE_URL'] = 'postgresql://paraffin:secret@127.0.0.1/paraffin';
  context.after(() => delete process.env['PARAFFIN_DATABASE_URL']);
  await using file = await fileOf(lightningFile(someEncoder('RESNET34'), ''));
  const reading = readEncoderFileInSandbox([file], TASK, scratchDir(), sha256Of, BOUNDS);
  const environment = await readFile(`/proc/${await readingProcess()}/environ`, 'utf8');
  assert.deepEqual(
    environment
      .split('\0')
      .filter((line) => line !== '')
      .map((line) => line.split('=', 1)[0]),
    ['GLIBC_TUNABLES', 'PATH'],
  );
  await reading;
});

describe('a hostile file is refused, and none of its code runs', () => {
  const command = op.reduce(op.global('os', 'system'), op.text('exit 1'));
  const hostile: readonly (readonly [string, Buffer])[] = [
    ['a command instead of weights', archive(pickle(command))],
    ['the same in the old format', legacy({ object: pickle(command) })],
    [
      'code to be evaluated',
      archive(pickle(op.dict(op.text('weight'), op.reduce(op.global('builtins', 'eval'), op.text('process.exit(1)'))))),
    ],
    [
      'lists nested too deeply',
      archive(
        pickle(
          Buffer.concat([
            ...Array.from({ length: 100_000 }, () => Buffer.from('](')),
            ...Array.from({ length: 100_000 }, () => Buffer.from('e')),
          ]),
        ),
      ),
    ],
    ['a list that grows that never ends', archive(pickle(Buffer.from('](' + 'N'.repeat(3_000_000) + 'e')))],
    [
      'names that PostgreSQL cannot keep',
      archive(pickle(op.dict(op.text('state\0dict'), op.global('os\0', 'system\ud800')))),
    ],
  ];
  for (const [what, bytes] of hostile) {
    test(what, async () => {
      assert.equal((await faultOf(bytes)).code, 'FORMAT_INVALID');
    });
  }
});

describe('the process', () => {
  const program = path.resolve(import.meta.dirname, '../support/reach-out.ts');

  test('may not write, read other files than its own, or start a program', async () => {
    // The result if a file made the reader itself try this.
    const { stdout } = await promisify(execFile)(
      process.execPath,
      [...readPermissionFlags(), program, path.join(folder, 'written'), '/etc/passwd'],
      { env: {} },
    );
    assert.deepEqual(JSON.parse(stdout), {
      write: 'ERR_ACCESS_DENIED',
      read: 'ERR_ACCESS_DENIED',
      start: 'ERR_ACCESS_DENIED',
      thread: 'ERR_ACCESS_DENIED',
    });
  });
});
