/**
 * A slide of an import as any worker may read it: the plan that goes out, and the outcome that comes back. Both are
 * artifacts. The plan is gzip of JSON; the outcome is gzip of a line for each batch (read-file.ts), and the encoded
 * patches one behind the other.
 */
import { open } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import { gunzip, gzip } from 'node:zlib';
import { z } from 'zod';
import type { ArtifactStore, LocalFile, StoredBytes } from '../../../src/platform/artifact-store/index.ts';
import type { PartOutcome } from '../../../src/protocol/part-calls.ts';
import { fileFactsSchema, fileOf, lineOf, type ReadFile } from '../read-file.ts';
import { stainSchema } from './slide-reply.ts';

const FORMAT = 'paraffin import part 1';
/** The largest one holds a million patches. */
const FACTS_BYTES_MAX = 1024 ** 3;

const size = z.strictObject({ width: z.int().min(1), height: z.int().min(1) });
const planSchema = z.strictObject({
  format: z.literal(FORMAT),
  /** Another one may cut other patches. */
  programVersion: z.string(),
  relativePath: z.string(),
  /** Of its file where the import was planned. */
  facts: fileFactsSchema,
  batches: z.array(
    z.strictObject({
      givenMicronsPerPixel: z.number().nullable(),
      places: z.array(z.strictObject({ x: z.int(), y: z.int(), tissueFraction: z.number() })),
      stain: stainSchema.nullable(),
      ...{ level0: size, slide: size },
    }),
  ),
});
export type SlidePlan = Omit<z.infer<typeof planSchema>, 'format'>;

/** The same plan gives the same bytes. */
export async function storePlan(artifacts: Pick<ArtifactStore, 'put'>, plan: SlidePlan): Promise<StoredBytes> {
  const { sha256, byteSize } = await artifacts.put(await promisify(gzip)(JSON.stringify({ format: FORMAT, ...plan })));
  return { sha256, byteSize };
}

/** @throws DomainError of the store; SyntaxError or ZodError for a plan of another version of the program. */
export async function readPlan(artifacts: Pick<ArtifactStore, 'read'>, sha256: string): Promise<SlidePlan> {
  const text = await promisify(gunzip)(await artifacts.read(sha256), { maxOutputLength: FACTS_BYTES_MAX });
  const { format: _, ...plan } = planSchema.parse(JSON.parse(text.toString('utf8')));
  return plan;
}

/**
 * Stores what the batches of a slide gave.
 * @param workDir for the patches on their way.
 */
export async function storeOutcome(
  artifacts: Pick<ArtifactStore, 'put'>,
  workDir: string,
  batches: AsyncIterable<ReadFile>,
): Promise<PartOutcome> {
  const lines: string[] = [];
  const file = path.join(workDir, 'patches');
  let byteCount = 0;
  {
    await using handle = await open(file, 'w', 0o600);
    for await (const batch of batches) {
      lines.push(lineOf(batch));
      for (const { bytes } of batch.prepared.images) {
        if (bytes === null) throw new Error('A patch that was just read has no bytes.');
        await handle.writeFile(bytes);
        byteCount += bytes.length;
      }
    }
  }
  const facts = await artifacts.put(await promisify(gzip)(lines.join('\n'), { level: 1 }));
  const patches = byteCount === 0 ? null : await artifacts.put({ file });
  return {
    facts: { sha256: facts.sha256, byteSize: facts.byteSize },
    patches: patches === null ? null : { sha256: patches.sha256, byteSize: patches.byteSize },
  };
}

/** The outcome of a part does not fit its plan. */
export class PartDisagreesError extends Error {
  override readonly name = 'PartDisagreesError';
}

/** A slide that another worker has read. */
export interface SettledSlide {
  /** What a batch gave, with the bytes of its patches. */
  batch(index: number): Promise<ReadFile>;
  release(): Promise<void>;
}

/**
 * Opens the outcome of a part for reading.
 * @param localFile the patches as a verified file.
 * @throws PartDisagreesError for an outcome that is not of this plan; DomainError of the store; SyntaxError, ZodError
 * or an error of zlib for facts that are none.
 */
export async function openOutcome(
  { facts, patches }: PartOutcome,
  plan: SlidePlan,
  patchSizePx: number,
  artifacts: Pick<ArtifactStore, 'read'>,
  localFile: (sha256: string) => Promise<LocalFile>,
): Promise<SettledSlide> {
  const text = await promisify(gunzip)(await artifacts.read(facts.sha256), { maxOutputLength: FACTS_BYTES_MAX });
  const batches = text.toString('utf8').split('\n').map(fileOf);
  requirePlanned(batches, plan, patchSizePx);
  const offsets = [0];
  for (const batch of batches) offsets.push((offsets.at(-1) ?? 0) + byteCountOf(batch));
  if (offsets.at(-1) !== (patches?.byteSize ?? 0)) throw new PartDisagreesError('Its patches have another size.');
  const file = patches === null ? null : await localFile(patches.sha256);
  return {
    batch: async (index) => {
      const batch = batches[index];
      const offset = offsets[index];
      if (batch === undefined || offset === undefined) throw new RangeError(`The slide has no batch ${index}.`);
      const byteCount = byteCountOf(batch);
      const bytes = file === null || byteCount === 0 ? Buffer.alloc(0) : await bytesAt(file.path, offset, byteCount);
      let next = 0;
      const images = batch.prepared.images.map((image) => {
        next += image.byteLength;
        return { ...image, bytes: bytes.subarray(next - image.byteLength, next) };
      });
      return { ...batch, prepared: { ...batch.prepared, images } };
    },
    release: async () => file?.release(),
  };
}

/** Each image is a patch of its batch, in the order of the places; what its pixels are is the word of who read them. */
function requirePlanned(batches: readonly ReadFile[], plan: SlidePlan, patchSizePx: number): void {
  if (batches.length !== plan.batches.length) throw new PartDisagreesError('It has another number of batches.');
  for (const [index, { facts, prepared }] of batches.entries()) {
    const planned = plan.batches[index];
    if (facts?.byteSize !== plan.facts.byteSize || facts.modifiedAtMs !== plan.facts.modifiedAtMs)
      throw new PartDisagreesError('It was read from another file.');
    // A file beside the slide may be missing there, or its library another one: the worker of the run tries it itself.
    if (prepared.outcome === 'REFUSED' || prepared.notes.some(({ issue }) => issue === 'REGION_UNREADABLE'))
      throw new PartDisagreesError('Some of it could not be read there.');
    let place = -1;
    for (const { width, height, extension, cutFrom, profile } of prepared.images) {
      place = planned?.places.findIndex(({ x, y }, at) => at > place && x === cutFrom?.x && y === cutFrom.y) ?? -1;
      const isOfSlide =
        cutFrom?.sourceWidth === planned?.slide.width && cutFrom?.sourceHeight === planned?.slide.height;
      const isPatch = width === patchSizePx && height === patchSizePx && extension === 'png' && profile === null;
      if (place < 0 || !isOfSlide || !isPatch) throw new PartDisagreesError('It holds a patch that was not planned.');
    }
  }
}

function byteCountOf({ prepared }: ReadFile): number {
  return prepared.images.reduce((sum, { byteLength }) => sum + byteLength, 0);
}

/** @throws Error for a file that ends before. */
async function bytesAt(file: string, offset: number, byteCount: number): Promise<Buffer> {
  await using handle = await open(file, 'r');
  const bytes = Buffer.alloc(byteCount);
  for (let filled = 0; filled < byteCount;) {
    const { bytesRead } = await handle.read(bytes, filled, byteCount - filled, offset + filled);
    if (bytesRead === 0) throw new Error(`${file} ends before byte ${offset + byteCount}.`);
    filled += bytesRead;
  }
  return bytes;
}
