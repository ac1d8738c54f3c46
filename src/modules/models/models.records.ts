/** Types of models and their checkpoints that other modules use. */
import type { EncoderArchitecture } from '../../generated/prisma/enums.ts';
import type { Architecture } from '../../formats/encoders/index.ts';
import type { GoldenRecord, InputContract } from '../../protocol/checkpoint.ts';
import type { CheckpointProbeRecord } from '../../protocol/checkpoint-probe.ts';

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

/** The origin of a checkpoint that was not trained in this registry. */
export interface ExternalSourceRecord {
  readonly url: string | null;
  readonly fileName: string | null;
  readonly byteSize: number | null;
  readonly sha256: string | null;
  readonly licence: string | null;
  /** The page where the publisher grants access to the file; null if the file is open. */
  readonly accessUrl: string | null;
  /** Null until the registry has read its file. */
  readonly contents: ImportedContentsRecord | null;
}

/** Contents of an imported file other than the encoder's tensors; the stored file leaves them out. */
export interface ImportedContentsRecord {
  readonly format: 'SAFETENSORS' | 'TORCH_ZIP' | 'TORCH_LEGACY';
  /** The common prefix of the encoder's tensor names, e.g. `model.resnet.`; empty for torchvision's own names. */
  readonly keyPrefix: string;
  /** Classes and functions that the pickle references, e.g. `posix.system`; none of them was imported or called. */
  readonly inertGlobals: readonly string[];
  /** Sizes of SimCLR's projection head: embedding to hidden to projection. */
  readonly projectionHead: { readonly hiddenDim: number; readonly projectionDim: number } | null;
  readonly classifier: { readonly classCount: number } | null;
  /** e.g. `optimizer_states: 122 tensors` */
  readonly ignoredParts: readonly string[];
  /** Numbers and texts of the file, such as hyper-parameters, unchanged. */
  readonly scalars: readonly { readonly path: string; readonly value: string | number | boolean | null }[];
}

/** One fact about a training outside this registry. */
export interface TrainingFactRecord {
  readonly name: string;
  /** Null means unknown. */
  readonly value: string | null;
  /**
   * READ: taken from the named source. SECOND_HAND: reported by another party that cites that source. null: unknown.
   */
  readonly evidence: 'READ' | 'SECOND_HAND' | null;
  readonly sources: readonly string[];
}

/** The short form of a checkpoint, for lists such as leaderboards with hundreds of rows. */
export interface MentionedCheckpointRecord {
  readonly id: string;
  readonly modelId: string;
  /** Counts from 1 within its model. */
  readonly version: number;
  /** The network's name if it is one of torchvision's ResNets; OTHER for every other. */
  readonly encoder: EncoderArchitecture;
}

export interface CheckpointRecord extends MentionedCheckpointRecord {
  readonly architecture: Architecture;
  readonly embeddingDim: number;
  readonly inputContract: InputContract;
  readonly sourceRunId: string | null;
  readonly importedFrom: ExternalSourceRecord | null;
  /** Its name in the catalogue of published checkpoints. */
  readonly publishedSlug: string | null;
  /** Empty for a checkpoint that was trained here, because its run has these facts. */
  readonly trainingFacts: readonly TrainingFactRecord[];
  readonly step: number | null;
  readonly epoch: number | null;
  /** The result of the pretraining's own probe; null if it was not probed. */
  readonly probe: CheckpointProbeRecord | null;
  /** sha256 of the stored safetensors; null while only an external source is known. */
  readonly sha256: string | null;
  readonly byteSize: number | null;
  /** Digest of its tensors, independent of the file format; null until it is computed. See formats/tensor-digest. */
  readonly tensorDigest: string | null;
  readonly createdAt: Date;
}

/** The source type of the API's Checkpoint. */
export type CheckpointSource = MentionedCheckpointRecord | CheckpointRecord;

/** A checkpoint whose weights are in the artifact store. */
export interface UsableCheckpointRecord extends CheckpointRecord {
  readonly sha256: string;
  readonly byteSize: number;
}

/** A trained encoder in the outcome of the pretraining task. */
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
  /** The checkpoint that the training started from. Its training data counts as seen by this one, too. */
  readonly initialCheckpointId: string | null;
}

/** An imported encoder, stored and ready to be registered. */
export interface NewImportedCheckpoint {
  readonly architecture: Architecture;
  readonly embeddingDim: number;
  readonly inputContract: InputContract;
  readonly importedFrom: ExternalSourceRecord;
  readonly sha256: string;
  readonly byteSize: number;
  readonly tensorDigest: string;
}

/**
 * The training data of a checkpoint: of its own training and of the trainings before it. Checkpoints with the same
 * weights share it.
 */
export interface PretrainingRecord {
  /** `isPart`: every training on the version used only a part of its images. */
  readonly versions: readonly { readonly datasetVersionId: string; readonly isPart: boolean }[];
  /**
   * False if it, or a checkpoint that its training started from, was imported and no checkpoint with the same weights
   * was trained here.
   */
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
