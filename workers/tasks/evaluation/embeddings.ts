/**
 * The embeddings that an evaluation needs. Sets that are not stored yet are computed block by block, so that a run
 * continues behind its last stored block after its process was killed, and memory holds one block and, where encoders
 * are large, one encoder. Of a stored set only the rows that the protocol uses are read.
 */
import { createHash } from 'node:crypto';
import { UnreachableCaseError } from '../../../src/errors.ts';
import { createNpyRowReader, npyHeader } from '../../../src/formats/npy.ts';
import { describeEncoder, parameterCountOf } from '../../../src/formats/encoders/index.ts';
import { layOutSafetensors } from '../../../src/formats/safetensors.ts';
import type { SealedVersion } from '../../../src/protocol/dataset-version.ts';
import type { UsableCheckpoint } from '../../../src/protocol/checkpoint.ts';
import { readVerified, type StoredBytes } from '../../../src/platform/artifact-store/index.ts';
import { openEvaluationImages } from '../../engine/data/batches.ts';
import { imagesFrom, type ManifestImages } from '../../engine/data/manifest.ts';
import { embeddingBatchSize, embedPixels } from '../../engine/embed.ts';
import { openEncoder, untrainedWeights, type InferenceEncoder } from '../../engine/encoders/index.ts';
import type { NamedTensor } from '../../engine/named-tensor.ts';
import { COLOUR_STATISTICS_DIM, colourStatistics } from '../../engine/probe/colour-statistics.ts';
import { createRandom } from '../../engine/rng.ts';
import { engineInfo } from '../../engine/tensorflow.ts';
import { openShardSources } from '../shard-sources.ts';
import { storedDecoderOf } from '../stored-decoder.ts';
import { withStoredWeights } from '../stored-weights.ts';
import { inHalfPrecision } from '../weights-rounding.ts';
import type { TaskContext } from '../task.ts';
import {
  colourStatisticsKey,
  preparationDigestOf,
  type EmbeddingKey,
  type EmbeddingSource,
} from '../../../src/protocol/embeddings.ts';
import { idsCsvChunks } from '../../../src/formats/embedding-ids.ts';

/** Reads the embeddings of these rows of the manifest, `[rows.length, D]`, from the store. The rows are ascending. */
export type ReadEmbeddings = (source: Source, rows: Int32Array) => Promise<Float32Array>;

export interface EmbeddingRequest {
  readonly checkpoint: UsableCheckpoint;
  readonly version: SealedVersion;
  /** Every image of the version. */
  readonly images: ManifestImages;
  readonly randomEncoderSeed: number;
  /** The requested kinds of embedding. */
  readonly sources: readonly Source[];
  /** Images in a block, rounded up to whole batches; default: BLOCK_IMAGES. */
  readonly blockImages?: number;
  /** Called with the fraction 0..1 after each batch, and awaited. */
  readonly onProgress: (fraction: number, message: string) => Promise<void>;
}

/** 32 MB of embeddings of 2,048 numbers: a minute of work or less, which a killed process loses. */
const BLOCK_IMAGES = 4096;

/**
 * More than those of a ViT-S or a ResNet-50, fewer than those of a ViT-B, which takes about 0.4 s of processor time to
 * embed an image (docs/benchmarks.md) that is decoded in a few ms.
 */
const SHARED_PASS_PARAMETERS_MAX = 64_000_000;

type Source = EmbeddingSource;

/** One kind of image descriptor, and the key under which its descriptors are stored. */
interface Describer {
  readonly source: Source;
  readonly isEncoder: boolean;
  readonly key: EmbeddingKey;
  readonly embeddingDim: number;
  /** Opened only if descriptors have to be computed. */
  open(): Promise<OpenDescriber>;
}

interface OpenDescriber {
  /** Descriptors `[count, D]` of uint8 RGB images `[count, S, S, 3]`. */
  describe(pixels: Uint8Array, imageCount: number): Float32Array;
  dispose(): void;
}

/**
 * Computes and stores the requested sets, unless they are stored. Throws ImageDataError for damaged shards, and the
 * errors of the artifact store.
 */
export async function evaluatedEmbeddings(context: TaskContext, request: EmbeddingRequest): Promise<ReadEmbeddings> {
  const describers = request.sources.map((source) => describerOf(context, request, source));
  const stored = await Promise.all(describers.map(({ key }) => context.registry.embeddingSet({ key })));
  const missing = describers.filter((_, index) => stored[index] === null);
  const passes = passesOf(missing, request.checkpoint);
  for (const [index, pass] of passes.entries())
    await computeSets(context, pass, {
      ...request,
      onProgress: (fraction, message) => request.onProgress((index + fraction) / passes.length, message),
    });
  return async (source, rows) => {
    const describer = describers.find((each) => each.source === source);
    const set = describer === undefined ? null : await context.registry.embeddingSet({ key: describer.key });
    if (set === null) throw new RangeError(`The embeddings of ${source} were not requested.`);
    const reader = createNpyRowReader([set.imageCount, set.embeddingDim], rows);
    await readVerified(context.artifacts, set.sha256, reader.take);
    return reader.finish();
  };
}

/**
 * Describers that see the images together: all of them, so that images are decoded once, unless a processor embeds by
 * encoders that are so large that decoding takes far less time. Then one encoder is in memory at a time.
 */
function passesOf(describers: readonly Describer[], { architecture }: UsableCheckpoint): (readonly Describer[])[] {
  if (describers.length === 0) return [];
  const isLarge = parameterCountOf(describeEncoder(architecture)) > SHARED_PASS_PARAMETERS_MAX;
  if (!isLarge || engineInfo().device === 'GPU') return [describers];
  const [first = [], ...others] = describers.filter(({ isEncoder }) => isEncoder).map((describer) => [describer]);
  return [[...first, ...describers.filter(({ isEncoder }) => !isEncoder)], ...others];
}

/** The same architecture as the checkpoint's, freshly initialised, in the dtype of the checkpoint's weights. */
export function randomEncoderOf(
  { architecture, inputContract: { weightsDtype } }: UsableCheckpoint,
  seed: number,
): NamedTensor[] {
  const drawn = untrainedWeights(architecture, createRandom(seed).fork('random encoder'));
  return weightsDtype === 'FLOAT32' ? drawn : drawn.map((tensor) => inHalfPrecision(tensor, weightsDtype));
}

/** The sha256 of the file that `writeSafetensors` would make, of which only one tensor at a time is in memory. */
function fileDigestOf(tensors: readonly NamedTensor[]): string {
  const { beginning, places } = layOutSafetensors(tensors);
  const byName = new Map(tensors.map((tensor) => [tensor.name, tensor]));
  const hash = createHash('sha256').update(beginning);
  for (const name of places.keys()) {
    const data = byName.get(name)?.data;
    if (data !== undefined) hash.update(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  }
  return hash.digest('hex');
}

function describerOf(
  context: TaskContext,
  { checkpoint, version, randomEncoderSeed }: EmbeddingRequest,
  source: Source,
): Describer {
  const { architecture, embeddingDim, inputContract } = checkpoint;
  const openWith = (tensors: readonly NamedTensor[]): InferenceEncoder =>
    openEncoder(architecture, tensors, inputContract.pooling);
  const byEncoder = (encoderDigest: string, openEmbedder: () => Promise<InferenceEncoder>): Describer => ({
    source,
    isEncoder: true,
    key: { encoderDigest, datasetDigest: version.digest, preparationDigest: preparationDigestOf(inputContract) },
    embeddingDim,
    open: async () => {
      const opened = await openEmbedder();
      return {
        describe: (pixels, imageCount) =>
          embedPixels(opened, pixels, imageCount, inputContract.imageSizePx, inputContract),
        dispose: () => opened.dispose(),
      };
    },
  });
  switch (source) {
    case 'CHECKPOINT':
      return byEncoder(checkpoint.sha256, () => withStoredWeights(context, checkpoint.sha256, openWith));
    case 'RANDOM_ENCODER': {
      const weights = randomEncoderOf(checkpoint, randomEncoderSeed);
      return byEncoder(fileDigestOf(weights), async () => openWith(weights));
    }
    case 'COLOUR_STATISTICS':
      return {
        source,
        isEncoder: false,
        key: { ...colourStatisticsKey(inputContract), datasetDigest: version.digest },
        embeddingDim: COLOUR_STATISTICS_DIM,
        open: async () => ({ describe: colourStatistics, dispose: () => undefined }),
      };
    default:
      throw new UnreachableCaseError(source);
  }
}

/** Computes the sets of all describers in one pass over the images, and stores them. */
async function computeSets(
  context: TaskContext,
  describers: readonly Describer[],
  request: EmbeddingRequest,
): Promise<void> {
  const { images, version, checkpoint } = request;
  const blocks = await computeBlocks(context, describers, request);
  const ids = await context.artifacts.put(toAsync(idsCsvChunks(images)));
  for (const [place, { source, key, embeddingDim }] of describers.entries()) {
    const rows = await context.artifacts.put(npyOf(context, [images.length, embeddingDim], blocks[place] ?? []));
    await context.registry.registerEmbeddingSet({
      set: { ...key, source, imageCount: images.length, embeddingDim, rows, ids, engine: { ...engineInfo() } },
    });
  }
  context.logger.debug(
    { checkpointId: checkpoint.id, versionId: version.id, sources: describers.map(({ source }) => source) },
    'embeddings made',
  );
}

/** A block in the store, or the only block of a small version. */
type Block = Pick<StoredBytes, 'sha256'> | { readonly values: Float32Array };

/** The file of a finished set; one block at a time is in memory. */
async function* npyOf(
  context: TaskContext,
  shape: readonly [number, number],
  blocks: readonly Block[],
): AsyncGenerator<Uint8Array, void> {
  yield npyHeader(shape, '<f4');
  for (const block of blocks)
    yield 'values' in block ? bytesOf(block.values) : await context.artifacts.read(block.sha256);
}

/** The blocks of each describer, in order. */
async function computeBlocks(
  context: TaskContext,
  describers: readonly Describer[],
  { checkpoint, version, images, onProgress, blockImages: wanted = BLOCK_IMAGES }: EmbeddingRequest,
): Promise<Block[][]> {
  const { imageSizePx, resizeRule, interpolation } = checkpoint.inputContract;
  const batchSize = Math.min(embeddingBatchSize(imageSizePx), wanted);
  // Whole batches, so that a run that continues computes the same batches, and therefore the same bits.
  const blockImages = batchSize * Math.ceil(wanted / batchSize);
  const isStoredInBlocks = images.length > blockImages;
  const blocks: Block[][] = isStoredInBlocks
    ? await storedBlocks(context, describers, { blockImages, imageCount: images.length })
    : describers.map(() => []);
  let done = Math.min(images.length, (blocks[0]?.length ?? 0) * blockImages);
  if (done > 0) await onProgress(done / images.length, `Continues after ${done} of ${images.length} images.`);
  if (done === images.length) return blocks;

  await using sources = openShardSources(context, version);
  const { shards } = sources;
  const open: (OpenDescriber & Pick<Describer, 'embeddingDim'>)[] = [];
  try {
    for (const describer of describers)
      open.push({ embeddingDim: describer.embeddingDim, ...(await describer.open()) });
    const emptyBlocks = (): Float32Array[] =>
      describers.map(
        ({ embeddingDim }) => new Float32Array(Math.min(blockImages, images.length - done) * embeddingDim),
      );
    let rows = emptyBlocks();
    let filled = 0;
    for await (const batch of openEvaluationImages({
      shards,
      images: imagesFrom(images, done),
      batchSize,
      imageSizePx,
      resizeRule,
      interpolation,
      openDecoder: storedDecoderOf(context),
    })) {
      context.throwIfStopped();
      for (const [place, { embeddingDim, describe }] of open.entries())
        rows[place]?.set(describe(batch.images, batch.imageCount), filled * embeddingDim);
      filled += batch.imageCount;
      done += batch.imageCount;
      if (filled === blockImages || done === images.length) {
        const full = isStoredInBlocks
          ? await storeBlocks(context, describers, { position: blocks[0]?.length ?? 0, imageCount: filled, rows })
          : rows.map((values) => ({ values }));
        for (const [place, block] of full.entries()) blocks[place]?.push(block);
        rows = emptyBlocks();
        filled = 0;
      }
      await onProgress(done / images.length, `Embedded ${done} of ${images.length} images.`);
    }
  } finally {
    for (const { dispose } of open) dispose();
  }
  return blocks;
}

/** The blocks that earlier attempts of this run have stored: as many for each describer. */
async function storedBlocks(
  context: TaskContext,
  describers: readonly Describer[],
  { blockImages, imageCount }: { readonly blockImages: number; readonly imageCount: number },
): Promise<Block[][]> {
  const found = await Promise.all(
    describers.map(({ key }) => context.registry.embeddingBlocks({ key, engine: { ...engineInfo() } })),
  );
  const expected = (position: number): number => Math.min(blockImages, imageCount - position * blockImages);
  const counts = found.map((blocks) => {
    const other = blocks.findIndex((block) => block.imageCount !== expected(block.position));
    return other < 0 ? blocks.length : other;
  });
  return found.map((blocks) => blocks.slice(0, Math.min(...counts)));
}

/** Stores the same block of every describer in one transaction. */
async function storeBlocks(
  context: TaskContext,
  describers: readonly Describer[],
  block: { readonly position: number; readonly imageCount: number; readonly rows: readonly Float32Array[] },
): Promise<StoredBytes[]> {
  const { position, imageCount, rows } = block;
  const stored: StoredBytes[] = [];
  for (const values of rows) stored.push(await context.artifacts.put(bytesOf(values)));
  await context.registry.keepEmbeddingBlocks({
    blocks: stored.flatMap((bytes, place) => {
      const key = describers[place]?.key;
      return key === undefined ? [] : [{ key, position, imageCount, rows: bytes, engine: { ...engineInfo() } }];
    }),
  });
  return stored;
}

function bytesOf({ buffer, byteOffset, byteLength }: Float32Array): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength);
}

async function* toAsync<Item>(items: Iterable<Item>): AsyncGenerator<Item, void> {
  yield* items;
}
