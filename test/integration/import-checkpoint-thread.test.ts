/** The thread that reads a file of weights ends with it, whatever the file is. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { DomainError } from '../../src/errors.ts';
import { readEncoderFileInThread } from '../../src/modules/models/encoder-thread.ts';
import type { EncoderFileTask } from '../../src/modules/models/encoder-file.ts';
import { archive, legacy, op, pickle } from '../fixtures/hostile/torch-files.ts';
import { INPUT_CONTRACT } from '../support/checkpoints.ts';
import { lightningFile, someEncoder } from '../support/encoder-files.ts';

let folder = '';
before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'paraffin-thread-'));
});
after(() => rm(folder, { recursive: true, force: true }));

async function taskFor(bytes: Uint8Array): Promise<EncoderFileTask> {
  const file = path.join(folder, 'weights');
  await writeFile(file, bytes);
  return { path: file, expectedSha256: null, expectedByteSize: null, encoder: null, keyPrefix: null, inputContract: INPUT_CONTRACT };
}

async function faultOf(bytes: Uint8Array, timeoutMs?: number): Promise<DomainError> {
  const error = await readEncoderFileInThread(await taskFor(bytes), timeoutMs).then(() => assert.fail('it was read'), (reason: unknown) => reason);
  assert.ok(error instanceof DomainError, String(error));
  return error;
}

test('reading leaves the event loop to others', async () => {
  const task = await taskFor(lightningFile(someEncoder('RESNET34'), ''));
  let turns = 0;
  const counting = setInterval(() => (turns += 1), 5);
  const { encoder, embeddingDim } = await readEncoderFileInThread(task);
  clearInterval(counting);
  assert.deepEqual([encoder, embeddingDim], ['RESNET34', 512]);
  assert.ok(turns > 10, `${turns} turns`);
});

test('a file that takes too long is let go, and its thread with it', async () => {
  const error = await faultOf(lightningFile(someEncoder('RESNET18'), ''), 1);
  assert.equal(error.code, 'TIMED_OUT');
});

describe('a hostile file is refused, and nothing of it is run', () => {
  const command = op.reduce(op.global('os', 'system'), op.text('exit 1'));
  const hostile: readonly (readonly [string, Buffer])[] = [
    ['a command instead of weights', archive(pickle(command))],
    ['the same in the old format', legacy({ object: pickle(command) })],
    ['code to be evaluated', archive(pickle(op.dict(op.text('weight'), op.reduce(op.global('builtins', 'eval'), op.text('process.exit(1)')))))],
    ['a nest that is too deep', archive(pickle(Buffer.concat([...Array.from({ length: 100_000 }, () => Buffer.from('](')), ...Array.from({ length: 100_000 }, () => Buffer.from('e'))])))],
    ['a list that grows without end', archive(pickle(Buffer.from('](' + 'N'.repeat(3_000_000) + 'e')))],
    ['names that PostgreSQL can not keep', archive(pickle(op.dict(op.text('state\0dict'), op.global('os\0', 'system\ud800'))))],
  ];
  for (const [what, bytes] of hostile) {
    test(what, async () => {
      assert.equal((await faultOf(bytes)).code, 'FORMAT_INVALID');
    });
  }
});

test('the thread is gone when the file is read: nothing keeps the process alive', async () => {
  const before = process.getActiveResourcesInfo().filter((name) => name === 'MessagePort').length;
  await faultOf(Buffer.from('no weights'));
  // A thread's port closes in the turn after its end.
  const turn = new EventTarget();
  setImmediate(() => turn.dispatchEvent(new Event('turn')));
  await once(turn, 'turn');
  assert.equal(process.getActiveResourcesInfo().filter((name) => name === 'MessagePort').length, before);
});
