/** Models and their checkpoints as the rest of the program sees them. */
import type { EncoderArchitecture } from '../../generated/prisma/enums.ts';
import type { InputContract } from './models.rules.ts';

export interface ModelRecord {
  readonly id: string;
  readonly slug: string;
  readonly name: string;
  readonly description: string | null;
  readonly licence: string | null;
  readonly createdAt: Date;
}

export interface ModelAliasRecord {
  readonly modelId: string;
  readonly name: string;
  readonly checkpointId: string;
  readonly updatedAt: Date;
}

/** Where a checkpoint that was not trained here came from. */
export interface ExternalSourceRecord {
  readonly url: string | null;
  readonly fileName: string | null;
  readonly byteSize: number | null;
  readonly sha256: string | null;
  readonly licence: string | null;
}

export interface CheckpointRecord {
  readonly id: string;
  readonly modelId: string;
  /** Counts from 1 within its model. */
  readonly version: number;
  readonly encoder: EncoderArchitecture;
  readonly embeddingDim: number;
  readonly inputContract: InputContract;
  readonly sourceRunId: string | null;
  readonly importedFrom: ExternalSourceRecord | null;
  readonly step: number | null;
  readonly epoch: number | null;
  /** Of the stored safetensors; null while only an external source is known. */
  readonly sha256: string | null;
  readonly byteSize: number | null;
  readonly createdAt: Date;
}

/** A checkpoint whose weights are in the artifact store. */
export interface UsableCheckpointRecord extends CheckpointRecord {
  readonly sha256: string;
  readonly byteSize: number;
}

/** Images and the embeddings that the checkpoint gives for them, by which a client proves its own preparation. */
export interface GoldenRecord {
  /** base64 of uint8 `[count, imageSizePx, imageSizePx, 3]`, RGB, before normalisation. */
  readonly images: string;
  /** `[count, embeddingDim]` */
  readonly embeddings: readonly (readonly number[])[];
}

/** A trained encoder, as the pretraining task hands it over. */
export interface NewCheckpoint {
  readonly modelSlug: string;
  readonly encoder: EncoderArchitecture;
  readonly embeddingDim: number;
  readonly inputContract: InputContract;
  readonly sourceRunId: string;
  readonly step: number;
  readonly epoch: number;
  readonly sha256: string;
  readonly byteSize: number;
  readonly golden: GoldenRecord | null;
  readonly trainedOnVersionIds: readonly string[];
}

/** A file of weights, ready to be sent. */
export interface WeightsFileRecord {
  readonly sha256: string;
  readonly byteSize: number;
  readonly mediaType: string;
  /** e.g. `tissue-v3-resnet18.safetensors` */
  readonly fileName: string;
}
