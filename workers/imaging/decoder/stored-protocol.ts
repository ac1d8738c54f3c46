/** The messages between a reader of sealed images and its decoder. The reader validates every reply. */
import { z } from 'zod';
import type { SquareRule } from '../../engine/data/stored-decoder.ts';

/** The argument of the program, in JSON. */
export interface StoredDecoderArgument extends SquareRule {
  /** See `loadNativeDecoder`. */
  readonly addon: string | null;
}

/** Images to decode: each `[slot, byteOffset, byteSize, byte offset of its pixels in the pixel file]`. */
export interface StoredDecoderRequest {
  readonly bodyByteSize: 0;
  readonly images: readonly (readonly [slot: number, byteOffset: number, byteSize: number, position: number])[];
}

const bodyByteSize = z.literal(0);

export const storedDecoderReplySchema = z.discriminatedUnion('kind', [
  /** The program is loaded. */
  z.strictObject({ kind: z.literal('READY'), bodyByteSize }),
  /** The pixels of all images of the request are in the pixel file. */
  z.strictObject({ kind: z.literal('DECODED'), bodyByteSize }),
  z.strictObject({
    kind: z.literal('FAILED'),
    bodyByteSize,
    reason: z.string().max(4_000),
  }),
]);
export type StoredDecoderReply = z.infer<typeof storedDecoderReplySchema>;
