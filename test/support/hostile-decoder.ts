/**
 * Stands for a decoder that a hostile image has taken over: a program for the decoders' sandbox that follows the
 * instructions of the file, in JSON, instead of decoding it.
 */
import { dropPrivilegesIfRequested } from '../../src/platform/drop-privileges.ts';
import { FREE_DECODING_BYTES } from '../../workers/imaging/decoder/decoder-limits.ts';
import { serveDecoder } from '../../workers/imaging/decoder/decoder-service.ts';
import { reach, type ReachOrder } from './hostile-reach.ts';

export type HostileOrder =
  | ReachOrder
  | { readonly do: 'TALK'; readonly base64: string }
  | { readonly do: 'CRASH' | 'HANG' | 'SEND_TOO_MUCH' | 'ASK_TOO_MUCH' | 'REFUSE' };

/** More than a decoder may use without a request. */
const RESERVED_BYTES = 2 * FREE_DECODING_BYTES;

dropPrivilegesIfRequested();
await serveDecoder(process.stdin, process.stdout, {
  prepare: async (bytes, { decodingBytesMax, reserve, emit }) => {
    const order: HostileOrder = JSON.parse(bytes.toString('utf8', bytes.indexOf('{')));
    switch (order.do) {
      case 'REACH':
        return { outcome: 'REFUSED', finding: { issue: 'UNREADABLE', reason: JSON.stringify(await reach(order)) } };
      case 'CRASH':
        return process.abort();
      case 'HANG':
        for (;;);
      case 'TALK':
        process.stdout.write(Buffer.from(order.base64, 'base64'));
        return new Promise(() => undefined);
      case 'SEND_TOO_MUCH':
        await reserve(RESERVED_BYTES);
        await emit({
          ...{ bytes: Buffer.alloc(RESERVED_BYTES + 1), extension: 'png', pixelDigest: Buffer.alloc(32) },
          ...{ perceptualHash: Buffer.alloc(8), width: 1, height: 1, cutFrom: null, profile: null },
          ...{ nearlyBlank: false, flatness: null },
        });
        return { outcome: 'PREPARED', blankCount: 0, notes: [] };
      case 'ASK_TOO_MUCH':
        await reserve(decodingBytesMax + 1);
        return { outcome: 'PREPARED', blankCount: 0, notes: [] };
      case 'REFUSE':
        return { outcome: 'REFUSED', finding: { issue: 'UNREADABLE' } };
    }
  },
  makeThumbnail: async (bytes) => bytes,
});
