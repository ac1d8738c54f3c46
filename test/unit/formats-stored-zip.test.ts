import { test, describe } from 'node:test';
import assert from 'node:assert/strict';
import { buffer } from 'node:stream/consumers';
import { promisify } from 'node:util';
import yauzl from 'yauzl';
import { writeStoredZip } from '../../src/formats/stored-zip.ts';

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const fromBuffer = promisify<Buffer, yauzl.Options, yauzl.ZipFile>(yauzl.fromBuffer);

/** Contents by name, read by an independent implementation that checks each CRC. */
async function unzipped(file: Uint8Array): Promise<Map<string, Buffer>> {
  const zip = await fromBuffer(Buffer.from(file), { lazyEntries: true });
  const contents = new Map<string, Buffer>();
  const { promise, resolve, reject } = Promise.withResolvers<undefined>();
  zip.on('entry', (entry: yauzl.Entry) => {
    zip.openReadStream(entry, (error, stream) => {
      if (error !== null) return reject(error);
      buffer(stream).then((data) => {
        contents.set(entry.fileName, data);
        zip.readEntry();
      }, reject);
    });
  });
  zip.once('end', () => resolve(undefined));
  zip.once('error', reject);
  zip.readEntry();
  await promise;
  return contents;
}

describe('a stored zip', () => {
  const entries = [
    { name: 'a/one.bin', data: bytes('first') },
    { name: 'a/empty', data: bytes('') },
    { name: 'b.json', data: bytes('{"third":3}') },
  ];

  test('is read by other programs', async () => {
    for (const alignment of [1, 64]) {
      const contents = await unzipped(writeStoredZip(entries, alignment));
      assert.deepEqual(
        [...contents].map(([name, data]) => [name, data.toString()]),
        [
          ['a/one.bin', 'first'],
          ['a/empty', ''],
          ['b.json', '{"third":3}'],
        ],
      );
    }
    assert.equal((await unzipped(writeStoredZip([], 64))).size, 0);
  });

  test('aligns the data of each entry, whatever the length of its name', () => {
    for (let length = 1; length < 140; length += 1) {
      const name = 'n'.repeat(length);
      const file = Buffer.from(
        writeStoredZip(
          [
            { name: 'x', data: bytes('12345') },
            { name, data: bytes('DATA') },
          ].slice(length === 1 ? 1 : 0),
          64,
        ),
      );
      assert.equal(file.indexOf('DATA') % 64, 0, `a name of ${length} characters`);
    }
  });

  test('is identical each time', () => assert.deepEqual(writeStoredZip(entries, 64), writeStoredZip(entries, 64)));

  test('refuses a name that is duplicated, absolute, outside the folder or not ASCII', () => {
    for (const name of ['/etc/passwd', '../up', 'a/../b', 'a//b', '', 'é', 'a\\b']) {
      assert.throws(() => writeStoredZip([{ name, data: bytes('') }], 1), /not a plain relative path/);
    }
    assert.throws(
      () =>
        writeStoredZip(
          [
            { name: 'a', data: bytes('') },
            { name: 'a', data: bytes('') },
          ],
          1,
        ),
      /Two entries/,
    );
  });

  test('refuses content that would need zip64', () => {
    assert.throws(
      () =>
        writeStoredZip(
          Array.from({ length: 65_536 }, (_, index) => ({ name: String(index), data: bytes('') })),
          1,
        ),
      /65535 entries/,
    );
    const large = new Uint8Array(2 ** 30);
    const entriesOver = Array.from({ length: 4 }, (_, index) => ({ name: String(index), data: large.subarray() }));
    assert.throws(() => writeStoredZip(entriesOver, 1), /4 GiB/);
  });

  test('refuses an invalid alignment', () => {
    for (const alignment of [0, -1, 1.5, Number.NaN, 65_536])
      assert.throws(() => writeStoredZip([], alignment), RangeError);
  });
});
