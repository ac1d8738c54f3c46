/**
 * Stands for a decoder of sealed images that a hostile image has taken over: it follows the instructions of the image,
 * in JSON, instead of decoding it. Any other image is decoded as its first byte, everywhere.
 */
import { ftruncateSync } from 'node:fs';
import { dropPrivilegesIfRequested } from '../../src/platform/drop-privileges.ts';
import type { SquareRule } from '../../workers/engine/data/stored-decoder.ts';
import { FIRST_FILE } from '../../workers/imaging/decoder/decoder-limits.ts';
import { serveStoredDecoder } from '../../workers/imaging/decoder/stored-service.ts';
import { reach, type ReachOrder } from './hostile-reach.ts';

export type HostileStoredOrder =
  | ReachOrder
  | { readonly do: 'TALK'; readonly text: string }
  | { readonly do: 'CRASH' | 'HANG' | 'REFUSE' | 'LEAVE_NO_PIXELS' };

const { sizePx }: SquareRule = JSON.parse(process.argv[2] ?? '');
dropPrivilegesIfRequested();
await serveStoredDecoder(process.stdin, process.stdout, async (bytes) => {
  if (bytes[0] !== 0x7b) return Buffer.alloc(sizePx * sizePx * 3, bytes[0]);
  const order: HostileStoredOrder = JSON.parse(bytes.toString('utf8'));
  switch (order.do) {
    case 'REACH':
      throw new Error(JSON.stringify(await reach(order)));
    case 'CRASH':
      return process.abort();
    case 'HANG':
      for (;;);
    case 'REFUSE':
      throw new Error('refused');
    case 'TALK':
      process.stdout.write(order.text);
      return new Promise(() => undefined);
    case 'LEAVE_NO_PIXELS':
      ftruncateSync(FIRST_FILE, 0);
      return Buffer.alloc(0);
  }
});
