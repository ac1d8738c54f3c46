/**
 * The process in which sealed images are decoded for trainings, evaluations and embeddings, so that a file that crashes
 * a decoder crashes only this process. The files of encoded images and of pixels are open; nothing else is.
 */
import sharp from 'sharp';
import { dropPrivilegesIfRequested } from '../../../src/platform/drop-privileges.ts';
import { decodeSquare } from './decode-square.ts';
import { loadNativeDecoder } from './native-decoder.ts';
import type { StoredDecoderArgument } from './stored-protocol.ts';
import { serveStoredDecoder } from './stored-service.ts';

// One libvips thread for each image: many images at once scale better than many threads on one.
sharp.concurrency(1);
sharp.cache(false);

// The argument comes from our own reader, which is trusted.
const { addon, ...rule }: StoredDecoderArgument = JSON.parse(process.argv[2] ?? '');
// Our own decoder resizes by the bilinear filter only.
const native = rule.interpolation === 'BICUBIC' ? undefined : loadNativeDecoder(addon);
dropPrivilegesIfRequested();
const [isFast, isStretched] = [rule.quality === 'FAST', rule.resizeRule === 'STRETCH'];
await serveStoredDecoder(
  process.stdin,
  process.stdout,
  (bytes) => decodeSquare(bytes, rule),
  async (...files) => (await native?.decodeSquare(...files, rule.sizePx, isFast, isStretched)) ?? false,
);
