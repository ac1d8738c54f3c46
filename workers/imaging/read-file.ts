/** What an import learns of one of its sources, and its line of JSON: see import-blocks.ts and slide-part.ts. */
import { z } from 'zod';
import type { FileFacts } from '../../src/platform/open-folder.ts';
import { findingSchema } from './decoder/decoder-protocol.ts';
import type { Prepared, PreparedImage } from './decoder/prepare.ts';

/** A prepared image whose bytes may lie in a sealed shard already. */
export interface PackedImage extends Omit<PreparedImage, 'bytes' | 'flatness'> {
  readonly byteLength: number;
  /** Null for an image that an earlier attempt has decoded and packed. */
  readonly bytes: Buffer | null;
}

/** What an import learns of one file. */
export interface ReadFile {
  /** Null for a file that is gone, or is not a regular file. */
  readonly facts: FileFacts | null;
  /** The bytes read. */
  readonly byteSize: number;
  readonly prepared: Prepared & { readonly images: readonly PackedImage[] };
}

const count = z.int().min(0);
const sha256 = z.hex().length(64);
const imageSchema = z.strictObject({
  extension: z.enum(['jpg', 'png', 'webp']),
  byteLength: count,
  pixelDigest: sha256,
  perceptualHash: z.hex().length(16),
  width: count,
  height: count,
  cutFrom: z.strictObject({ x: count, y: count, sourceWidth: count, sourceHeight: count }).nullable(),
  profile: z.strictObject({ sha256, changesPixels: z.boolean() }).nullable(),
  nearlyBlank: z.boolean(),
});
export const fileFactsSchema = z.strictObject({ byteSize: count, modifiedAtMs: z.int() });
const fileSchema = z.strictObject({
  facts: fileFactsSchema.nullable(),
  byteSize: count,
  prepared: z.discriminatedUnion('outcome', [
    z.strictObject({ outcome: z.literal('REFUSED'), finding: findingSchema }),
    z.strictObject({
      outcome: z.literal('PREPARED'),
      blankCount: count,
      notes: z.array(findingSchema),
      images: z.array(imageSchema),
    }),
  ]),
});

/** A line of JSON without the bytes of the images. */
export function lineOf({ facts, byteSize, prepared }: ReadFile): string {
  const line: z.infer<typeof fileSchema> = {
    facts,
    byteSize,
    prepared:
      prepared.outcome === 'REFUSED'
        ? { outcome: 'REFUSED', finding: prepared.finding }
        : {
            outcome: 'PREPARED',
            blankCount: prepared.blankCount,
            notes: [...prepared.notes],
            images: prepared.images.map((image) => ({
              extension: image.extension,
              byteLength: image.byteLength,
              pixelDigest: image.pixelDigest.toString('hex'),
              perceptualHash: Buffer.from(image.perceptualHash).toString('hex'),
              width: image.width,
              height: image.height,
              cutFrom: image.cutFrom,
              profile: image.profile,
              nearlyBlank: image.nearlyBlank,
            })),
          },
  };
  return JSON.stringify(line);
}

/** The file of a line. @throws SyntaxError or ZodError for another text. */
export function fileOf(line: string): ReadFile {
  const { facts, byteSize, prepared } = fileSchema.parse(JSON.parse(line));
  if (prepared.outcome === 'REFUSED') return { facts, byteSize, prepared: { ...prepared, images: [] } };
  const images = prepared.images.map((image) => ({
    ...image,
    pixelDigest: Buffer.from(image.pixelDigest, 'hex'),
    perceptualHash: Uint8Array.from(Buffer.from(image.perceptualHash, 'hex')),
    bytes: null,
  }));
  return { facts, byteSize, prepared: { ...prepared, images } };
}
