/**
 * The embeddings that an evaluation needs: stored ones are read, and the others are computed in one pass over the
 * images and stored.
 */
import { createHash } from 'node:crypto';
import { UnreachableCaseError } from '../../../src/errors.ts';
import { readNpy, writeNpy } from '../../../src/formats/npy.ts';
import { readSafetensors, writeSafetensors } from '../../../src/formats/safetensors.ts';
import type { SealedVersionRecord } from '../../../src/modules/datasets/index.ts';
import {
  digestOfMethod,
  idsCsvOf,
  preparationDigestOf,
  type EmbeddingKey,
  type EmbeddingSetRecord,
} from '../../../src/modules/embeddings/index.ts';
import type { UsableCheckpointRecord } from '../../../src/modules/models/index.ts';
import { openEvaluationImages } from '../../engine/data/batches.ts';
import type { ManifestImage } from '../../engine/data/manifest.ts';
import { embeddingBatchSize, embedPixels } from '../../engine/embed.ts';
import { embeddingDimOf, encoderFromWeights } from '../../engine/models/resnet.ts';
import { randomEncoderWeights } from '../../engine/models/weights.ts';
import type { NamedTensor } from '../../engine/named-tensor.ts';
import { COLOUR_STATISTICS_DIM, colourStatistics } from '../../engine/probe/colour-statistics.ts';
import { createRandom } from '../../engine/rng.ts';
import { engineInfo } from '../../engine/tensorflow.ts';
import { shardSourcesOf } from '../shard-sources.ts';
import { storedDecoderOf } from '../stored-decoder.ts';
import type { TaskContext } from '../task.ts';

/** `[N, D]` in the order of the manifest. */
export interface Embeddings {
  readonly values: Float32Array;
  readonly embeddingDim: number;
}

export interface EmbeddingRequest {
  readonly checkpoint: UsableCheckpointRecord;
  readonly version: SealedVersionRecord;
  /** Every image of the version. */
  readonly images: readonly ManifestImage[];
  /** Seed of the random encoder. */
  readonly seed: number;
  /** The requested kinds of embedding. */
  readonly sources: readonly Source[];
  /** Called with the fraction 0..1 after each batch, and awaited. */
  readonly onProgress: (fraction: number, message: string) => Promise<void>;
}

/** Increase this version when the descriptors change. */
const COLOUR_METHOD = 'colour-statistics-1';

type Source = EmbeddingSetRecord['source'];

/** One kind of image descriptor, and the key under which its descriptors are stored. */
interface Describer {
  readonly source: Source;
  readonly key: EmbeddingKey;
  readonly embeddingDim: number;
  /** Opened only if descriptors have to be computed. */
  open(): OpenDescriber;
}

interface OpenDescriber {
  /** Descriptors `[count, D]` of uint8 RGB images `[count, S, S, 3]`. */
  describe(pixels: Uint8Array, imageCount: number): Float32Array;
  dispose(): void;
}

/** Throws ImageDataError for damaged shards, and the errors of the artifact store. */
export async function evaluatedEmbeddings(
  context: TaskContext,
  request: EmbeddingRequest,
): Promise<(source: Source) => Embeddings> {
  const describers = await Promise.all(request.sources.map((source) => describerOf(context, request, source)));
  const kept = await Promise.all(describers.map((describer) => findKept(context, describer)));
  const missing = describers.filter((_, index) => kept[index] === undefined);
  const made = missing.length === 0 ? new Map<Describer, Embeddings>() : await makeAndKeep(context, request, missing);
  const found = new Map(describers.map((describer, index) => [describer.source, kept[index] ?? made.get(describer)]));
  return (source) => {
    const embeddings = found.get(source);
    if (embeddings === undefined) throw new RangeError(`The embeddings of ${source} were not requested.`);
    return embeddings;
  };
}

/** The same architecture as the checkpoint's, freshly initialised. */
export function untrainedWeights({ encoder }: UsableCheckpointRecord, seed: number): NamedTensor[] {
  return randomEncoderWeights(encoder, createRandom(seed).fork('random encoder'));
}

async function describerOf(
  context: TaskContext,
  { checkpoint, version, seed }: EmbeddingRequest,
  source: Source,
): Promise<Describer> {
  const { encoder, inputContract } = checkpoint;
  const keyOf = (encoderDigest: string): EmbeddingKey => ({
    encoderDigest,
    datasetDigest: version.digest,
    preparationDigest: preparationDigestOf(inputContract),
  });
  const byEncoder = (encoderDigest: string, weights: readonly NamedTensor[]): Describer => ({
    source,
    key: keyOf(encoderDigest),
    embeddingDim: embeddingDimOf(encoder),
    open: () => {
      const opened = encoderFromWeights(encoder, weights);
      return {
        describe: (pixels, imageCount) =>
          embedPixels(opened, pixels, imageCount, inputContract.imageSizePx, inputContract),
        dispose: () => opened.dispose(),
      };
    },
  });
  switch (source) {
    case 'CHECKPOINT':
      return byEncoder(checkpoint.sha256, readSafetensors(await context.artifacts.read(checkpoint.sha256)).tensors);
    case 'RANDOM_ENCODER': {
      const weights = untrainedWeights(checkpoint, seed);
      return byEncoder(createHash('sha256').update(writeSafetensors(weights, {})).digest('hex'), weights);
    }
    case 'COLOUR_STATISTICS':
      return {
        source,
        key: keyOf(digestOfMethod(COLOUR_METHOD)),
        embeddingDim: COLOUR_STATISTICS_DIM,
        open: () => ({ describe: colourStatistics, dispose: () => undefined }),
      };
    default:
      throw new UnreachableCaseError(source);
  }
}

async function findKept(context: TaskContext, { key }: Describer): Promise<Embeddings | undefined> {
  const set = await context.services.embeddings.findForUse(key);
  if (set === undefined) return undefined;
  const { data } = readNpy(await context.artifacts.read(set.sha256));
  if (!(data instanceof Float32Array)) throw new Error(`The embeddings ${set.id} are not float32.`);
  return { values: data, embeddingDim: set.embeddingDim };
}

async function makeAndKeep(
  context: TaskContext,
  request: EmbeddingRequest,
  describers: readonly Describer[],
): Promise<Map<Describer, Embeddings>> {
  const { version, images, checkpoint } = request;
  const made = await describeImages(context, request, describers);
  const ids = await context.artifacts.put(Buffer.from(idsCsvOf(images)));
  for (const [{ source, key }, { values, embeddingDim }] of made) {
    const rows = await context.artifacts.put(writeNpy({ shape: [images.length, embeddingDim], data: values }));
    await context.withLease((tx) =>
      context.services.embeddings.register(tx, {
        ...key,
        source,
        imageCount: images.length,
        embeddingDim,
        rows,
        ids,
        engine: engineInfo(),
      }),
    );
  }
  context.logger.debug(
    { checkpointId: checkpoint.id, versionId: version.id, sources: describers.map(({ source }) => source) },
    'embeddings made',
  );
  return made;
}

/** Makes one pass over the images for all descriptors. */
async function describeImages(
  context: TaskContext,
  { version, images, checkpoint, onProgress }: EmbeddingRequest,
  describers: readonly Describer[],
): Promise<Map<Describer, Embeddings>> {
  const { imageSizePx, resizeRule } = checkpoint.inputContract;
  const made = new Map(
    describers.map((describer) => [
      describer,
      { values: new Float32Array(images.length * describer.embeddingDim), embeddingDim: describer.embeddingDim },
    ]),
  );
  const open = describers.map((describer) => ({ describer, ...describer.open() }));
  try {
    let done = 0;
    for await (const batch of openEvaluationImages({
      shards: shardSourcesOf(context, version),
      images,
      batchSize: embeddingBatchSize(imageSizePx),
      imageSizePx,
      resizeRule,
      openDecoder: storedDecoderOf(context),
    })) {
      context.throwIfStopped();
      for (const { describer, describe } of open)
        made.get(describer)?.values.set(describe(batch.images, batch.imageCount), done * describer.embeddingDim);
      done += batch.imageCount;
      await onProgress(done / images.length, `Embedded ${done} of ${images.length} images.`);
    }
  } finally {
    for (const { dispose } of open) dispose();
  }
  return made;
}
