/** Embeddings as the rest of the program sees them. */
import type { EmbeddingSource } from '../../generated/prisma/enums.ts';

/** What one set is the only one of. */
export interface EmbeddingKey {
  /** sha256 of the encoder's weights as they are stored; of the name of the method for COLOUR_STATISTICS. */
  readonly encoderDigest: string;
  readonly datasetDigest: string;
  readonly preparationDigest: string;
}

export interface EmbeddingSetRecord extends EmbeddingKey {
  readonly id: string;
  readonly source: EmbeddingSource;
  readonly imageCount: number;
  readonly embeddingDim: number;
  /** Of the .npy: float32 `[imageCount, embeddingDim]`, in the order of the manifest. */
  readonly sha256: string;
  readonly byteSize: number;
  /** Of the CSV that names each row. */
  readonly idsSha256: string;
  readonly createdAt: Date;
}

/** What a worker made. */
export interface NewEmbeddingSet extends EmbeddingKey {
  readonly source: EmbeddingSource;
  readonly imageCount: number;
  readonly embeddingDim: number;
  readonly rows: { readonly sha256: string; readonly byteSize: number };
  readonly ids: { readonly sha256: string; readonly byteSize: number };
  /** The engine and device that made them. */
  readonly engine: object;
}

/** A file of a set, ready to be sent. */
export interface EmbeddingFileRecord {
  readonly sha256: string;
  readonly byteSize: number;
  readonly mediaType: string;
  readonly fileName: string;
}
