/**
 * The process in which an import's images are decoded, so that a file that crashes a decoder crashes only this process.
 * Files arrive in an unlinked file or on standard input, and images and facts leave on standard output; nothing else is
 * open.
 */
import sharp from 'sharp';
import { dropPrivilegesIfRequested } from '../../../src/platform/drop-privileges.ts';
import type { DecoderArgument } from './decoder-protocol.ts';
import { serveDecoder } from './decoder-service.ts';
import { pngLoops } from './encode-png.ts';
import { createJpegDecoder, loadNativeDecoder } from './native-decoder.ts';
import { prepareImage } from './prepare.ts';
import { makeThumbnail } from './thumbnail.ts';

// One libvips thread for each image: many images at once scale better than many threads on one.
sharp.concurrency(1);
sharp.cache(false);

// The argument comes from our own import, which is trusted.
const { addon }: DecoderArgument = JSON.parse(process.argv[2] ?? '');
const native = loadNativeDecoder(addon);
const loops = { jpegs: native === null ? null : createJpegDecoder(native), png: pngLoops(native) };
dropPrivilegesIfRequested();
await serveDecoder(process.stdin, process.stdout, {
  prepare: (bytes, preparation) => prepareImage(bytes, preparation, loops),
  makeThumbnail,
});
