/** Types of embeddings that other modules use. */
import type { EmbeddingSource } from '../../generated/prisma/enums.ts';
import type { EmbeddingKey } from '../../protocol/embeddings.ts';

export interface EmbeddingSetRecord extends EmbeddingKey {
  readonly id: string;
  readonly source: EmbeddingSource;
  readonly imageCount: number;
  readonly embeddingDim: number;
  /** sha256 of the .npy: float32 `[imageCount, embeddingDim]`, in the order of the manifest. */
  readonly sha256: string;
  readonly byteSize: number;
  /** sha256 of the CSV that names the image of each row. */
  readonly idsSha256: string;
  readonly createdAt: Date;
}

/** A set that a worker computed. */
export interface NewEmbeddingSet extends EmbeddingKey {
  readonly source: EmbeddingSource;
  readonly imageCount: number;
  readonly embeddingDim: number;
  readonly rows: { readonly sha256: string; readonly byteSize: number };
  readonly ids: { readonly sha256: string; readonly byteSize: number };
  /** The engine and device that computed the embeddings. */
  readonly engine: object;
}

/** A file of a set, ready to be sent. */
export interface EmbeddingFileRecord {
  readonly sha256: string;
  readonly byteSize: number;
  readonly mediaType: string;
  readonly fileName: string;
}

/** Consecutive rows of a set that a run has not finished. */
export interface EmbeddingBlockRecord {
  /** 0 for the first rows. */
  readonly position: number;
  readonly imageCount: number;
  /** sha256 of float32 `[imageCount, embeddingDim]`, without a header. */
  readonly sha256: string;
}

export interface NewEmbeddingBlock {
  readonly runId: string;
  readonly key: EmbeddingKey;
  readonly position: number;
  readonly imageCount: number;
  readonly rows: { readonly sha256: string; readonly byteSize: number };
  readonly engine: object;
}
