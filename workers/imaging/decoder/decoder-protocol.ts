/** The messages between an import and a decoder. The import validates everything that the decoder sends. */
import { z } from 'zod';
import { FLATNESSES } from '../flatness.ts';
import { ISSUE_KINDS, type IssueKind } from '../issues.ts';
import type { Finding } from '../formats/image-header.ts';

/** The argument of the program, in JSON. */
export interface DecoderArgument {
  /** See `loadNativeDecoder`. */
  readonly addon: string | null;
}

/** Bytes of the shared file. */
export interface SharedBytes {
  readonly byteOffset: number;
  readonly byteSize: number;
}

export type DecoderRequest = { readonly bodyByteSize: number } & (
  | {
      readonly kind: 'PREPARE';
      /** Where the image is in the shared file; null: it is the body of this message. */
      readonly shared: SharedBytes | null;
      readonly patchSizePx: number | null;
      readonly sampleBits: number | null;
      readonly measuresFlatness: boolean;
      readonly decodingBytesMax: number;
      /** An image that is stored as its original file need not be sent back. */
      readonly keepsFile: boolean;
    }
  /** The memory requested by RESERVE is available. */
  | { readonly kind: 'GRANT' }
  | { readonly kind: 'THUMBNAIL' }
);

const isIssueKind = (kind: unknown): kind is IssueKind => typeof kind === 'string' && Object.hasOwn(ISSUE_KINDS, kind);
export const findingSchema: z.ZodType<Finding> = z.strictObject({
  issue: z.custom<IssueKind>(isIssueKind),
  reason: z.string().max(2_000).optional(),
});
const pixelCount = z.int().min(0);
const bodyByteSize = z.int().min(0);

export const decoderReplySchema = z.discriminatedUnion('kind', [
  /** The program is loaded. */
  z.strictObject({ kind: z.literal('READY'), bodyByteSize }),
  /** Requested before decoding an image that needs more memory than a decoder always has (`FREE_DECODING_BYTES`). */
  z.strictObject({ kind: z.literal('RESERVE'), bodyByteSize, byteCount: z.int().min(0) }),
  /** One image of the file; its body is the bytes to store, unless those are the file itself. */
  z.strictObject({
    kind: z.literal('IMAGE'),
    bodyByteSize,
    isFile: z.boolean(),
    extension: z.enum(['jpg', 'png', 'webp']),
    pixelDigest: z.hex().length(64),
    perceptualHash: z.hex().length(16),
    width: pixelCount,
    height: pixelCount,
    cutFrom: z
      .strictObject({ x: pixelCount, y: pixelCount, sourceWidth: pixelCount, sourceHeight: pixelCount })
      .nullable(),
    profile: z.strictObject({ sha256: z.hex().length(64), changesPixels: z.boolean() }).nullable(),
    nearlyBlank: z.boolean(),
    flatness: z.enum(FLATNESSES).nullable(),
  }),
  /** All images of the file were sent. */
  z.strictObject({
    kind: z.literal('PREPARED'),
    bodyByteSize,
    blankCount: z.int().min(0),
    notes: z.array(findingSchema).max(10),
  }),
  z.strictObject({ kind: z.literal('REFUSED'), bodyByteSize, finding: findingSchema }),
  z.strictObject({ kind: z.literal('THUMBNAIL'), bodyByteSize }),
]);
export type DecoderReply = z.infer<typeof decoderReplySchema>;
