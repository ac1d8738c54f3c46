/** Image bombs: an import stays within its memory limit for any folder, and imports every image that fits. */
import assert from 'node:assert/strict';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { buffer } from 'node:stream/consumers';
import { Readable } from 'node:stream';
import { test, type TestContext } from 'node:test';
import { createDeflate } from 'node:zlib';
import sharp, { type Sharp } from 'sharp';
import { openArtifactStore } from '../../src/platform/artifact-store/index.ts';
import { openFolder } from '../../src/platform/open-folder.ts';
import { openImageDecoders } from '../../workers/imaging/decoder/image-decoders.ts';
import { importImages } from '../../workers/imaging/import-images.ts';
import { pngChunk, pngThatClaims, tissueJpeg, tissuePng } from '../fixtures/hostile-images.ts';
import { familyOf } from '../support/processes.ts';
import { temporaryFolder } from '../support/shards.ts';

const MIB = 1024 ** 2;
/** Limit for all images together, instead of 1.5 GiB. */
const DECODING_BYTES = 64 * MIB;
const DECODER_COUNT = 2;
/** The memory that docs/importing.md allows for the processes themselves. */
const DECODER_BYTES = 128 * MIB;
const IMPORT_BYTES = 512 * MIB;
const POLL_EVERY_MS = 10;
/** The decoded size of a small file. */
const INFLATED_MIB = 384;

test('an import of bombs stays within its memory, and imports what can be', async (context) => {
  const base = await temporaryFolder(context);
  const [folder, workDir] = [path.join(base, 'images'), path.join(base, 'work')];
  for (const each of [folder, workDir]) await mkdir(each);
  const files = await bombs();
  for (const [name, bytes] of Object.entries(files)) await writeFile(path.join(folder, name), bytes);
  // Together they decode to many times the available memory.
  const fileBytes = Object.values(files).reduce((sum, bytes) => sum + bytes.length, 0);
  assert.ok(fileBytes < 16 * MIB, `${fileBytes} bytes of files`);

  await using decoders = openImageDecoders({ hiddenFolder: workDir, processCount: DECODER_COUNT });
  const memory = await watchMemory(context);
  await using opened = await openFolder(folder);
  const result = await importImages({
    ...{ folder: opened, layout: 'FLAT', labelsCsv: null, patchSizePx: null, workDir, decoders },
    ...{ artifacts: openArtifactStore(path.join(base, 'artifacts')), decodingBytes: DECODING_BYTES },
  });
  const { decoderPeaks, peak } = await memory.stop();
  const megabytes = (bytes: number): number => Math.round(bytes / MIB);
  context.diagnostic(
    `Of each decoder at its peak ${decoderPeaks.map(megabytes).join(', ')} MiB; of all, beside what the test had before, ${megabytes(peak)} MiB.`,
  );
  assert.equal(decoderPeaks.length, DECODER_COUNT);
  for (const decoderPeak of decoderPeaks)
    assert.ok(decoderPeak <= DECODER_BYTES + DECODING_BYTES, `a decoder took ${megabytes(decoderPeak)} MiB`);
  assert.ok(peak <= DECODING_BYTES + DECODER_COUNT * DECODER_BYTES + IMPORT_BYTES, `${megabytes(peak)} MiB in all`);

  const examples = (kind: string): readonly string[] =>
    result.issues.find((issue) => issue.kind === kind)?.examples ?? [];
  assert.deepEqual(examples('TOO_LARGE'), ['claims.png', 'sixteen-bit.png']);
  assert.deepEqual(examples('DECODER_FAILED'), []);
  assert.ok(result.imageCount >= 10, `${result.imageCount} images`);
});

/** Each file is small, and large once it is decoded; the last two are normal images. */
async function bombs(): Promise<Readonly<Record<string, Buffer>>> {
  const plain = (sizePx: number, red: number): Sharp =>
    sharp({ create: { width: sizePx, height: sizePx, channels: 3, background: { r: red, g: 90, b: 90 } } });
  const png = await tissuePng(64, 5);
  const files: Record<string, Buffer> = {
    'claims.png': pngThatClaims(100_000, 100_000),
    'sixteen-bit.png': await plain(2400, 1).toColourspace('rgb16').png().toBuffer(),
    // Chunks of text and of a profile, and pixels that go on after the last row.
    'text.png': afterHeader(png, pngChunk('zTXt', Buffer.concat([Buffer.from('Comment\0\0'), await inflating()]))),
    'profile.png': afterHeader(png, pngChunk('iCCP', Buffer.concat([Buffer.from('sRGB\0\0'), await inflating()]))),
    'more-rows.png': Buffer.concat([
      png.subarray(0, 33),
      pngChunk('IDAT', await inflating()),
      pngChunk('IEND', Buffer.alloc(0)),
    ]),
    'one.jpg': await tissueJpeg(96, 6),
    'two.jpg': await tissueJpeg(96, 7),
  };
  for (let index = 0; index < 4; index += 1) {
    files[`plain-${index}.png`] = await plain(3000, index).png().toBuffer();
    files[`interlaced-${index}.png`] = await plain(2800, 10 + index)
      .png({ progressive: true })
      .toBuffer();
    files[`progressive-${index}.jpg`] = await plain(2400, 20 + index)
      .jpeg({ progressive: true })
      .toBuffer();
    files[`lossless-${index}.webp`] = await plain(2200, 30 + index)
      .webp({ lossless: true, effort: 0 })
      .toBuffer();
    files[`deflated-${index}.tif`] = await plain(2400, 40 + index)
      .tiff({ compression: 'deflate' })
      .toBuffer();
  }
  return files;
}

/** Zeros, which deflate compresses a thousandfold. */
function inflating(): Promise<Buffer> {
  const zeros = Buffer.alloc(MIB);
  return buffer(Readable.from(Array.from({ length: INFLATED_MIB }, () => zeros)).pipe(createDeflate()));
}

/** After the first chunk. */
function afterHeader(png: Buffer, chunk: Buffer): Buffer {
  return Buffer.concat([png.subarray(0, 33), chunk, png.subarray(33)]);
}

/** Samples the resident memory of this process and all its descendants until it is stopped. */
async function watchMemory(context: TestContext) {
  const before = await residentBytes(process.pid, 'VmRSS');
  const decoderPeaks = new Map<number, number>();
  let peak = 0;
  let isStopped = false;
  const watching = (async () => {
    while (!isStopped) {
      let all = -before;
      for (const pid of await familyOf(process.pid)) {
        all += await residentBytes(pid, 'VmRSS');
        const ownPeak = await residentBytes(pid, 'VmHWM');
        // The shells around the decoders use a few.
        if (pid !== process.pid && ownPeak > 32 * MIB) decoderPeaks.set(pid, ownPeak);
      }
      peak = Math.max(peak, all);
      await new Promise((resolve) => setTimeout(resolve, POLL_EVERY_MS));
    }
  })();
  const stop = async () => {
    isStopped = true;
    await watching;
    return { decoderPeaks: [...decoderPeaks.values()], peak };
  };
  context.after(stop);
  return { stop };
}

async function residentBytes(pid: number, field: 'VmRSS' | 'VmHWM'): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '');
  return Number(new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(status)?.[1] ?? 0) * 1024;
}
