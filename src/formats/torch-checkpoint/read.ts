import type { RandomAccess } from '../random-access.ts';
import { TorchCheckpointError } from './fault.ts';

/** Exactly `length` bytes. @throws TorchCheckpointError READ_SHORT when the source ends before. */
export async function readExactly(
  source: RandomAccess,
  offset: number,
  length: number,
  place: string,
  into?: Uint8Array<ArrayBuffer>,
): Promise<Uint8Array<ArrayBuffer>> {
  if (offset + length <= source.byteSize) {
    const bytes = await source.read(offset, length, into);
    if (bytes.length === length) return bytes;
  }
  throw new TorchCheckpointError('READ_SHORT', place, `The file ends before byte ${offset + length}.`);
}
