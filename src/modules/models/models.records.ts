/** Models and their checkpoints as the rest of the program sees them. */
import type { EncoderArchitecture } from '../../generated/prisma/enums.ts';
import type { InputContract } from './models.rules.ts';
import type { CheckpointProbeRecord } from './probe.rules.ts';

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
  /** Null until its file was read here. */
  readonly contents: ImportedContentsRecord | null;
}

/** What was found in an imported file beside the encoder's tensors, and left out of the stored one. */
export interface ImportedContentsRecord {
  readonly format: 'SAFETENSORS' | 'TORCH_ZIP' | 'TORCH_LEGACY';
  /** What every name of the encoder began with, e.g. `model.resnet.`; empty for torchvision's own names. */
  readonly keyPrefix: string;
  /** Classes and functions that the pickle names, e.g. `posix.system`: none was imported or called. */
  readonly inertGlobals: readonly string[];
  /** Sizes of SimCLR's projection head: embedding to hidden to projection. */
  readonly projectionHead: { readonly hiddenDim: number; readonly projectionDim: number } | null;
  readonly classifier: { readonly classCount: number } | null;
  /** e.g. `optimizer_states: 122 tensors` */
  readonly ignoredParts: readonly string[];
  /** Numbers and texts of the file, hyper-parameters among them, as the file has them. */
  readonly scalars: readonly { readonly path: string; readonly value: string | number | boolean | null }[];
}

/** One fact about a training that was not done here. */
export interface TrainingFactRecord {
  readonly name: string;
  /** Null is unknown. */
  readonly value: string | null;
  /**
   * READ in the named source; SECOND_HAND from somebody who says that they read it there; null where nothing is known.
   */
  readonly evidence: 'READ' | 'SECOND_HAND' | null;
  readonly sources: readonly string[];
}

/** A checkpoint as others mention it: a leaderboard names hundreds. */
export interface MentionedCheckpointRecord {
  readonly id: string;
  readonly modelId: string;
  /** Counts from 1 within its model. */
  readonly version: number;
  readonly encoder: EncoderArchitecture;
}

export interface CheckpointRecord extends MentionedCheckpointRecord {
  readonly embeddingDim: number;
  readonly inputContract: InputContract;
  readonly sourceRunId: string | null;
  readonly importedFrom: ExternalSourceRecord | null;
  /** Its name in the catalogue of published checkpoints. */
  readonly publishedSlug: string | null;
  /** Empty for one that was trained here: its run says everything. */
  readonly trainingFacts: readonly TrainingFactRecord[];
  readonly step: number | null;
  readonly epoch: number | null;
  /** What the pretraining's own probe said of it; null where there was none. */
  readonly probe: CheckpointProbeRecord | null;
  /** Of the stored safetensors; null while only an external source is known. */
  readonly sha256: string | null;
  readonly byteSize: number | null;
  /** Of its tensors, whatever the file; null while it is not computed. See formats/tensor-digest. */
  readonly tensorDigest: string | null;
  readonly createdAt: Date;
}

/** What the API's Checkpoint is made of. */
export type CheckpointSource = MentionedCheckpointRecord | CheckpointRecord;

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
  readonly probe: CheckpointProbeRecord | null;
  readonly sha256: string;
  readonly byteSize: number;
  readonly tensorDigest: string;
  readonly golden: GoldenRecord | null;
  readonly trainedOnVersionIds: readonly string[];
  /** The checkpoint that the training began from; what that one had seen, this one has seen too. */
  readonly initialCheckpointId: string | null;
}

/** An encoder that came from elsewhere, stored and ready to be registered. */
export interface NewImportedCheckpoint {
  readonly encoder: EncoderArchitecture;
  readonly embeddingDim: number;
  readonly inputContract: InputContract;
  readonly importedFrom: ExternalSourceRecord;
  readonly sha256: string;
  readonly byteSize: number;
  readonly tensorDigest: string;
}

/**
 * What a checkpoint has seen in its own training and in those that it began from. The same weights under another name
 * have seen the same.
 */
export interface PretrainingRecord {
  /** `isPart`: every training that used the version used only a part of its images. */
  readonly versions: readonly { readonly datasetVersionId: string; readonly isPart: boolean }[];
  /** False where it, or one that it began from, came from elsewhere and is not known here by the same weights. */
  readonly isComplete: boolean;
}

/** A file of weights, ready to be sent. */
export interface WeightsFileRecord {
  readonly sha256: string;
  readonly byteSize: number;
  readonly mediaType: string;
  /** e.g. `tissue-v3-resnet18.safetensors` */
  readonly fileName: string;
}
