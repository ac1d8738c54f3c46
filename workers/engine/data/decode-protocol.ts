/** Messages between the decoding thread and its owner. */
import type { ResizeRule } from './decode.ts';
import type { ImageDataErrorCode, ImageDataErrorPlace } from './errors.ts';
import type { SampledDataset, SamplingStrategy } from './sampling.ts';

/** A sealed dataset version as files on this machine. */
export interface ShardedDataset extends SampledDataset {
  readonly shardPaths: readonly string[];
}

export interface TrainingReading {
  readonly kind: 'TRAINING';
  readonly datasets: readonly ShardedDataset[];
  readonly sampling: SamplingStrategy;
  readonly batchSize: number;
  readonly sourceSizePx: number;
  readonly seed: number;
  readonly startStep: number;
  readonly cacheByteLimit: number;
}

export interface EvaluationReading {
  readonly kind: 'EVALUATION';
  readonly shardPaths: readonly string[];
  readonly images: readonly { readonly key: string; readonly shard: number }[];
  readonly batchSize: number;
  readonly imageSizePx: number;
  /** Default SHORT_SIDE_THEN_CENTRE_CROP. */
  readonly resizeRule?: ResizeRule | undefined;
}

export type Reading = TrainingReading | EvaluationReading;

/** CREDIT asks for one more batch; CLOSE ends the thread after the batch that it is making. */
export type DecodeRequest = { readonly kind: 'CREDIT' } | { readonly kind: 'CLOSE' };

export interface DecodedBatch {
  /** uint8 RGB `[count, sizePx, sizePx, 3]`. */
  readonly images: Uint8Array<ArrayBuffer>;
  /** One key for each image. */
  readonly keys: readonly string[];
  /** Images from each dataset, in the order of the datasets. */
  readonly sourceCounts: readonly number[];
  /** Images of this batch that had to be decoded; the others came from the cache. */
  readonly decodedCount: number;
}

export type DecodeReply =
  | { readonly kind: 'BATCH'; readonly batch: DecodedBatch }
  | { readonly kind: 'END' }
  | {
      readonly kind: 'FAILED';
      readonly code: ImageDataErrorCode;
      readonly message: string;
      readonly place: ImageDataErrorPlace;
    };
