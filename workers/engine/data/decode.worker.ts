/** The decoding thread. TensorFlow's kernels block the main thread's event loop, so reading has its own. */
import { parentPort, workerData } from 'node:worker_threads';
import sharp from 'sharp';
import { createDecoder, type Decoder } from './decoder.ts';
import type { DecodeReply, DecodeRequest, Reading } from './decode-protocol.ts';
import { ImageDataError } from './errors.ts';

// One libvips thread for each decode: several images are decoded at once, which scales better than several threads on a
// small image.
sharp.concurrency(1);
sharp.cache(false);

const port = parentPort;
if (port === null) throw new Error('decode.worker.ts runs as a worker thread only.');
const { reading }: { readonly reading: Reading } = workerData;

let decoder: Decoder | null = null;
let creditCount = 0;
let busy = false;
let closing = false;

port.on('message', (request: DecodeRequest) => {
  switch (request.kind) {
    case 'CREDIT':
      creditCount += 1;
      break;
    case 'CLOSE':
      closing = true;
      break;
  }
  void serve();
});

/** Makes batches while there is credit. Never rejects: an error is posted to the owner and ends the thread. */
async function serve(): Promise<void> {
  if (busy) return;
  busy = true;
  try {
    while (creditCount > 0 && !closing) {
      creditCount -= 1;
      decoder ??= createDecoder(reading);
      const batch = await decoder.next();
      if (batch === null) {
        closing = true;
        send({ kind: 'END' }, []);
      } else {
        send({ kind: 'BATCH', batch }, [batch.images.buffer]);
      }
    }
  } catch (error) {
    closing = true;
    send(failureOf(error), []);
  }
  busy = false;
  if (closing) {
    decoder?.close();
    port?.close();
  }
}

function send(reply: DecodeReply, transfer: readonly ArrayBuffer[]): void {
  port?.postMessage(reply, [...transfer]);
}

function failureOf(error: unknown): DecodeReply {
  if (error instanceof ImageDataError)
    return { kind: 'FAILED', code: error.code, message: error.message, place: error.place };
  const why = error instanceof Error ? (error.stack ?? error.message) : String(error);
  return { kind: 'FAILED', code: 'READER_DIED', message: `The decoding thread failed: ${why}`, place: {} };
}
