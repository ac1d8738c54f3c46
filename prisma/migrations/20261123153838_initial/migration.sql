-- CreateSchema
CREATE SCHEMA IF NOT EXISTS "public";

-- CreateEnum
CREATE TYPE "DatasetProvenance" AS ENUM ('PAPER_TABLE', 'PAPER_TEXT', 'OTHER_SOURCE', 'CANDIDATE', 'LOCAL');

-- CreateEnum
CREATE TYPE "ImageKind" AS ENUM ('PATCH', 'ROI', 'TMA', 'WSI');

-- CreateEnum
CREATE TYPE "TaskKind" AS ENUM ('CLASSIFICATION', 'SEGMENTATION', 'DETECTION', 'REGRESSION', 'REGISTRATION', 'RETRIEVAL', 'SURVIVAL');

-- CreateEnum
CREATE TYPE "FactEvidence" AS ENUM ('READ', 'RECALLED');

-- CreateEnum
CREATE TYPE "DatasetVersionStatus" AS ENUM ('DRAFT', 'SEALED');

-- CreateEnum
CREATE TYPE "RunKind" AS ENUM ('IMPORT', 'PRETRAINING', 'EVALUATION');

-- CreateEnum
CREATE TYPE "RunStatus" AS ENUM ('QUEUED', 'RUNNING', 'CANCELING', 'SUCCEEDED', 'FAILED', 'CANCELED');

-- CreateEnum
CREATE TYPE "FailureClass" AS ENUM ('USER', 'DATA', 'OUT_OF_MEMORY', 'INFRASTRUCTURE', 'TIMEOUT', 'INTERNAL');

-- CreateEnum
CREATE TYPE "EncoderArchitecture" AS ENUM ('RESNET18', 'RESNET34', 'RESNET50', 'RESNET101');

-- CreateEnum
CREATE TYPE "EvaluationProtocol" AS ENUM ('LINEAR_PROBE', 'KNN', 'FINE_TUNE', 'REGRESSION');

-- CreateEnum
CREATE TYPE "AccessRole" AS ENUM ('READER', 'CONTRIBUTOR', 'OPERATOR', 'ADMIN');

-- CreateTable
CREATE TABLE "Dataset" (
    "id" UUID NOT NULL,
    "slug" TEXT NOT NULL,
    "name" TEXT NOT NULL,
    "description" TEXT,
    "provenance" "DatasetProvenance" NOT NULL DEFAULT 'LOCAL',
    "provenanceNote" TEXT,
    "synthetic" BOOLEAN NOT NULL DEFAULT false,
    "imageKind" "ImageKind" NOT NULL,
    "imageCount" INTEGER,
    "slideCount" INTEGER,
    "imageSizeNote" TEXT,
    "classNames" TEXT[],
    "tasks" "TaskKind"[],
    "ihcMarkers" TEXT[],
    "licence" TEXT,
    "publishedYear" INTEGER,
    "citation" JSONB,
    "homepageUrl" TEXT,
    "notes" TEXT,
    "paperRoles" TEXT[],
    "subcollections" JSONB,
    "sourceUrls" TEXT[],
    "searchText" TEXT NOT NULL DEFAULT '',
    "catalogueDigest" TEXT,
    "editedAt" TIMESTAMPTZ(3),
    "createdAt" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "updatedAt" TIMESTAMPTZ(3) NOT NULL,

    CONSTRAINT "Dataset_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "Organ" (
    "code" TEXT NOT NULL,
    "name" TEXT NOT NULL,

    CONSTRAINT "Organ_pkey" PRIMARY KEY ("code")
);

-- CreateTable
CREATE TABLE "Stain" (
    "code" TEXT NOT NULL,
    "name" TEXT NOT NULL,

    CONSTRAINT "Stain_pkey" PRIMARY KEY ("code")
);

-- CreateTable
CREATE TABLE "DatasetOrgan" (
    "datasetId" UUID NOT NULL,
    "organCode" TEXT NOT NULL,

    CONSTRAINT "DatasetOrgan_pkey" PRIMARY KEY ("datasetId","organCode")
);

-- CreateTable
CREATE TABLE "DatasetStain" (
    "datasetId" UUID NOT NULL,
    "stainCode" TEXT NOT NULL,

    CONSTRAINT "DatasetStain_pkey" PRIMARY KEY ("datasetId","stainCode")
);

-- CreateTable
CREATE TABLE "DatasetResolution" (
    "id" UUID NOT NULL,
    "datasetId" UUID NOT NULL,
    "position" INTEGER NOT NULL,
    "magnification" DOUBLE PRECISION,
    "micronsPerPixel" DOUBLE PRECISION,

    CONSTRAINT "DatasetResolution_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "DatasetFactSource" (
    "datasetId" UUID NOT NULL,
    "field" TEXT NOT NULL,
    "evidence" "FactEvidence" NOT NULL,
    "sourceUrls" TEXT[],

    CONSTRAINT "DatasetFactSource_pkey" PRIMARY KEY ("datasetId","field")
);

-- CreateTable
CREATE TABLE "DatasetVersion" (
    "id" UUID NOT NULL,
    "datasetId" UUID NOT NULL,
    "version" INTEGER NOT NULL,
    "status" "DatasetVersionStatus" NOT NULL DEFAULT 'DRAFT',
    "digest" TEXT,
    "manifestSha256" TEXT,
    "patchSizePx" INTEGER,
    "imageCount" INTEGER NOT NULL DEFAULT 0,
    "byteSize" BIGINT NOT NULL DEFAULT 0,
    "labelNames" TEXT[],
    "labelCounts" JSONB NOT NULL DEFAULT '[]',
    "groupCount" INTEGER NOT NULL DEFAULT 0,
    "hasSplit" BOOLEAN NOT NULL DEFAULT false,
    "issues" JSONB NOT NULL DEFAULT '[]',
    "importRunId" UUID,
    "createdAt" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "sealedAt" TIMESTAMPTZ(3),

    CONSTRAINT "DatasetVersion_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "DatasetShard" (
    "datasetVersionId" UUID NOT NULL,
    "position" INTEGER NOT NULL,
    "sha256" TEXT NOT NULL,
    "byteSize" BIGINT NOT NULL,
    "imageCount" INTEGER NOT NULL,

    CONSTRAINT "DatasetShard_pkey" PRIMARY KEY ("datasetVersionId","position")
);

-- CreateTable
CREATE TABLE "DatasetThumbnail" (
    "datasetVersionId" UUID NOT NULL,
    "position" INTEGER NOT NULL,
    "sha256" TEXT NOT NULL,
    "label" TEXT,

    CONSTRAINT "DatasetThumbnail_pkey" PRIMARY KEY ("datasetVersionId","position")
);

-- CreateTable
CREATE TABLE "Artifact" (
    "sha256" TEXT NOT NULL,
    "byteSize" BIGINT NOT NULL,
    "mediaType" TEXT NOT NULL,
    "createdAt" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "Artifact_pkey" PRIMARY KEY ("sha256")
);

-- CreateTable
CREATE TABLE "Model" (
    "id" UUID NOT NULL,
    "slug" TEXT NOT NULL,
    "name" TEXT NOT NULL,
    "description" TEXT,
    "licence" TEXT,
    "createdAt" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "Model_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "ModelAlias" (
    "modelId" UUID NOT NULL,
    "name" TEXT NOT NULL,
    "checkpointId" UUID NOT NULL,
    "updatedAt" TIMESTAMPTZ(3) NOT NULL,

    CONSTRAINT "ModelAlias_pkey" PRIMARY KEY ("modelId","name")
);

-- CreateTable
CREATE TABLE "Checkpoint" (
    "id" UUID NOT NULL,
    "modelId" UUID NOT NULL,
    "version" INTEGER NOT NULL,
    "encoder" "EncoderArchitecture" NOT NULL,
    "embeddingDim" INTEGER NOT NULL,
    "inputContract" JSONB NOT NULL,
    "sourceRunId" UUID,
    "importedFrom" JSONB,
    "step" INTEGER,
    "epoch" DOUBLE PRECISION,
    "sha256" TEXT,
    "byteSize" BIGINT,
    "golden" JSONB,
    "createdAt" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "Checkpoint_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "CheckpointTrainedOn" (
    "checkpointId" UUID NOT NULL,
    "datasetVersionId" UUID NOT NULL,

    CONSTRAINT "CheckpointTrainedOn_pkey" PRIMARY KEY ("checkpointId","datasetVersionId")
);

-- CreateTable
CREATE TABLE "Run" (
    "id" UUID NOT NULL,
    "kind" "RunKind" NOT NULL,
    "status" "RunStatus" NOT NULL DEFAULT 'QUEUED',
    "config" JSONB NOT NULL,
    "attempt" INTEGER NOT NULL DEFAULT 0,
    "progress" DOUBLE PRECISION NOT NULL DEFAULT 0,
    "leaseEpoch" INTEGER NOT NULL DEFAULT 0,
    "leaseExpiresAt" TIMESTAMPTZ(3),
    "workerName" TEXT,
    "failureClass" "FailureClass",
    "failureCode" TEXT,
    "failureMessage" TEXT,
    "failureHint" TEXT,
    "environment" JSONB,
    "idempotencyKey" TEXT,
    "inputDigest" TEXT,
    "queuedAt" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "startedAt" TIMESTAMPTZ(3),
    "finishedAt" TIMESTAMPTZ(3),

    CONSTRAINT "Run_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "RunEvent" (
    "runId" UUID NOT NULL,
    "sequence" INTEGER NOT NULL,
    "at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "kind" TEXT NOT NULL,
    "status" "RunStatus",
    "progress" DOUBLE PRECISION,
    "message" TEXT,
    "metrics" JSONB,

    CONSTRAINT "RunEvent_pkey" PRIMARY KEY ("runId","sequence")
);

-- CreateTable
CREATE TABLE "RunMetricPoint" (
    "runId" UUID NOT NULL,
    "name" TEXT NOT NULL,
    "step" INTEGER NOT NULL,
    "value" DOUBLE PRECISION NOT NULL,
    "recordedAt" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "RunMetricPoint_pkey" PRIMARY KEY ("runId","name","step")
);

-- CreateTable
CREATE TABLE "TrainingState" (
    "runId" UUID NOT NULL,
    "step" INTEGER NOT NULL,
    "sha256" TEXT NOT NULL,
    "createdAt" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "TrainingState_pkey" PRIMARY KEY ("runId","step")
);

-- CreateTable
CREATE TABLE "Evaluation" (
    "id" UUID NOT NULL,
    "checkpointId" UUID NOT NULL,
    "datasetVersionId" UUID NOT NULL,
    "protocol" "EvaluationProtocol" NOT NULL,
    "runId" UUID NOT NULL,
    "seed" INTEGER NOT NULL,
    "options" JSONB NOT NULL,
    "split" JSONB NOT NULL,
    "confusionMatrix" JSONB,
    "perClass" JSONB,
    "baselines" JSONB NOT NULL,
    "createdAt" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "Evaluation_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "EvaluationMetric" (
    "evaluationId" UUID NOT NULL,
    "position" INTEGER NOT NULL,
    "name" TEXT NOT NULL,
    "value" DOUBLE PRECISION NOT NULL,
    "ci95Low" DOUBLE PRECISION,
    "ci95High" DOUBLE PRECISION,

    CONSTRAINT "EvaluationMetric_pkey" PRIMARY KEY ("evaluationId","name")
);

-- CreateTable
CREATE TABLE "AccessKey" (
    "id" UUID NOT NULL,
    "name" TEXT NOT NULL,
    "role" "AccessRole" NOT NULL,
    "salt" TEXT NOT NULL,
    "hash" TEXT NOT NULL,
    "createdAt" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "lastUsedAt" TIMESTAMPTZ(3),
    "expiresAt" TIMESTAMPTZ(3),
    "revokedAt" TIMESTAMPTZ(3),

    CONSTRAINT "AccessKey_pkey" PRIMARY KEY ("id")
);

-- CreateIndex
CREATE UNIQUE INDEX "Dataset_slug_key" ON "Dataset"("slug");

-- CreateIndex
CREATE INDEX "Dataset_name_id_idx" ON "Dataset"("name", "id");

-- CreateIndex
CREATE INDEX "Dataset_imageCount_id_idx" ON "Dataset"("imageCount", "id");

-- CreateIndex
CREATE INDEX "Dataset_publishedYear_id_idx" ON "Dataset"("publishedYear", "id");

-- CreateIndex
CREATE INDEX "Dataset_provenance_idx" ON "Dataset"("provenance");

-- CreateIndex
CREATE UNIQUE INDEX "Organ_name_key" ON "Organ"("name");

-- CreateIndex
CREATE UNIQUE INDEX "Stain_name_key" ON "Stain"("name");

-- CreateIndex
CREATE INDEX "DatasetOrgan_organCode_idx" ON "DatasetOrgan"("organCode");

-- CreateIndex
CREATE INDEX "DatasetStain_stainCode_idx" ON "DatasetStain"("stainCode");

-- CreateIndex
CREATE INDEX "DatasetResolution_magnification_idx" ON "DatasetResolution"("magnification");

-- CreateIndex
CREATE INDEX "DatasetResolution_micronsPerPixel_idx" ON "DatasetResolution"("micronsPerPixel");

-- CreateIndex
CREATE UNIQUE INDEX "DatasetResolution_datasetId_position_key" ON "DatasetResolution"("datasetId", "position");

-- CreateIndex
CREATE UNIQUE INDEX "DatasetVersion_importRunId_key" ON "DatasetVersion"("importRunId");

-- CreateIndex
CREATE INDEX "DatasetVersion_digest_idx" ON "DatasetVersion"("digest");

-- CreateIndex
CREATE UNIQUE INDEX "DatasetVersion_datasetId_version_key" ON "DatasetVersion"("datasetId", "version");

-- CreateIndex
CREATE INDEX "DatasetShard_sha256_idx" ON "DatasetShard"("sha256");

-- CreateIndex
CREATE INDEX "DatasetThumbnail_sha256_idx" ON "DatasetThumbnail"("sha256");

-- CreateIndex
CREATE UNIQUE INDEX "Model_slug_key" ON "Model"("slug");

-- CreateIndex
CREATE INDEX "ModelAlias_checkpointId_idx" ON "ModelAlias"("checkpointId");

-- CreateIndex
CREATE INDEX "Checkpoint_sha256_idx" ON "Checkpoint"("sha256");

-- CreateIndex
CREATE UNIQUE INDEX "Checkpoint_modelId_version_key" ON "Checkpoint"("modelId", "version");

-- CreateIndex
CREATE UNIQUE INDEX "Checkpoint_sourceRunId_step_key" ON "Checkpoint"("sourceRunId", "step");

-- CreateIndex
CREATE INDEX "CheckpointTrainedOn_datasetVersionId_idx" ON "CheckpointTrainedOn"("datasetVersionId");

-- CreateIndex
CREATE UNIQUE INDEX "Run_idempotencyKey_key" ON "Run"("idempotencyKey");

-- CreateIndex
CREATE INDEX "Run_status_queuedAt_idx" ON "Run"("status", "queuedAt");

-- CreateIndex
CREATE INDEX "Run_kind_id_idx" ON "Run"("kind", "id");

-- CreateIndex
CREATE INDEX "TrainingState_sha256_idx" ON "TrainingState"("sha256");

-- CreateIndex
CREATE UNIQUE INDEX "Evaluation_runId_key" ON "Evaluation"("runId");

-- CreateIndex
CREATE INDEX "Evaluation_datasetVersionId_protocol_idx" ON "Evaluation"("datasetVersionId", "protocol");

-- CreateIndex
CREATE INDEX "Evaluation_checkpointId_idx" ON "Evaluation"("checkpointId");

-- AddForeignKey
ALTER TABLE "DatasetOrgan" ADD CONSTRAINT "DatasetOrgan_datasetId_fkey" FOREIGN KEY ("datasetId") REFERENCES "Dataset"("id") ON DELETE CASCADE ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "DatasetOrgan" ADD CONSTRAINT "DatasetOrgan_organCode_fkey" FOREIGN KEY ("organCode") REFERENCES "Organ"("code") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "DatasetStain" ADD CONSTRAINT "DatasetStain_datasetId_fkey" FOREIGN KEY ("datasetId") REFERENCES "Dataset"("id") ON DELETE CASCADE ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "DatasetStain" ADD CONSTRAINT "DatasetStain_stainCode_fkey" FOREIGN KEY ("stainCode") REFERENCES "Stain"("code") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "DatasetResolution" ADD CONSTRAINT "DatasetResolution_datasetId_fkey" FOREIGN KEY ("datasetId") REFERENCES "Dataset"("id") ON DELETE CASCADE ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "DatasetFactSource" ADD CONSTRAINT "DatasetFactSource_datasetId_fkey" FOREIGN KEY ("datasetId") REFERENCES "Dataset"("id") ON DELETE CASCADE ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "DatasetVersion" ADD CONSTRAINT "DatasetVersion_datasetId_fkey" FOREIGN KEY ("datasetId") REFERENCES "Dataset"("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "DatasetVersion" ADD CONSTRAINT "DatasetVersion_importRunId_fkey" FOREIGN KEY ("importRunId") REFERENCES "Run"("id") ON DELETE SET NULL ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "DatasetShard" ADD CONSTRAINT "DatasetShard_datasetVersionId_fkey" FOREIGN KEY ("datasetVersionId") REFERENCES "DatasetVersion"("id") ON DELETE CASCADE ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "DatasetShard" ADD CONSTRAINT "DatasetShard_sha256_fkey" FOREIGN KEY ("sha256") REFERENCES "Artifact"("sha256") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "DatasetThumbnail" ADD CONSTRAINT "DatasetThumbnail_datasetVersionId_fkey" FOREIGN KEY ("datasetVersionId") REFERENCES "DatasetVersion"("id") ON DELETE CASCADE ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "DatasetThumbnail" ADD CONSTRAINT "DatasetThumbnail_sha256_fkey" FOREIGN KEY ("sha256") REFERENCES "Artifact"("sha256") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "ModelAlias" ADD CONSTRAINT "ModelAlias_modelId_fkey" FOREIGN KEY ("modelId") REFERENCES "Model"("id") ON DELETE CASCADE ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "ModelAlias" ADD CONSTRAINT "ModelAlias_checkpointId_fkey" FOREIGN KEY ("checkpointId") REFERENCES "Checkpoint"("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "Checkpoint" ADD CONSTRAINT "Checkpoint_modelId_fkey" FOREIGN KEY ("modelId") REFERENCES "Model"("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "Checkpoint" ADD CONSTRAINT "Checkpoint_sourceRunId_fkey" FOREIGN KEY ("sourceRunId") REFERENCES "Run"("id") ON DELETE SET NULL ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "Checkpoint" ADD CONSTRAINT "Checkpoint_sha256_fkey" FOREIGN KEY ("sha256") REFERENCES "Artifact"("sha256") ON DELETE SET NULL ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "CheckpointTrainedOn" ADD CONSTRAINT "CheckpointTrainedOn_checkpointId_fkey" FOREIGN KEY ("checkpointId") REFERENCES "Checkpoint"("id") ON DELETE CASCADE ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "CheckpointTrainedOn" ADD CONSTRAINT "CheckpointTrainedOn_datasetVersionId_fkey" FOREIGN KEY ("datasetVersionId") REFERENCES "DatasetVersion"("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "RunEvent" ADD CONSTRAINT "RunEvent_runId_fkey" FOREIGN KEY ("runId") REFERENCES "Run"("id") ON DELETE CASCADE ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "RunMetricPoint" ADD CONSTRAINT "RunMetricPoint_runId_fkey" FOREIGN KEY ("runId") REFERENCES "Run"("id") ON DELETE CASCADE ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "TrainingState" ADD CONSTRAINT "TrainingState_runId_fkey" FOREIGN KEY ("runId") REFERENCES "Run"("id") ON DELETE CASCADE ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "TrainingState" ADD CONSTRAINT "TrainingState_sha256_fkey" FOREIGN KEY ("sha256") REFERENCES "Artifact"("sha256") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "Evaluation" ADD CONSTRAINT "Evaluation_checkpointId_fkey" FOREIGN KEY ("checkpointId") REFERENCES "Checkpoint"("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "Evaluation" ADD CONSTRAINT "Evaluation_datasetVersionId_fkey" FOREIGN KEY ("datasetVersionId") REFERENCES "DatasetVersion"("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "Evaluation" ADD CONSTRAINT "Evaluation_runId_fkey" FOREIGN KEY ("runId") REFERENCES "Run"("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "EvaluationMetric" ADD CONSTRAINT "EvaluationMetric_evaluationId_fkey" FOREIGN KEY ("evaluationId") REFERENCES "Evaluation"("id") ON DELETE CASCADE ON UPDATE CASCADE;

-- Full-text search over what the store keeps in "searchText".
CREATE INDEX "Dataset_searchText_idx" ON "Dataset" USING GIN (to_tsvector('english', "searchText"));
