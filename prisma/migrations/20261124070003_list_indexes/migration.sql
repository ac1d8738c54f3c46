-- DropIndex
DROP INDEX "Dataset_name_id_idx";

-- DropIndex
DROP INDEX "Dataset_imageCount_id_idx";

-- DropIndex
DROP INDEX "Dataset_publishedYear_id_idx";

-- DropIndex
DROP INDEX "CheckpointTrainedOn_datasetVersionId_idx";

-- DropIndex
DROP INDEX "Run_kind_id_idx";

-- DropIndex
DROP INDEX "Evaluation_datasetVersionId_protocol_idx";

-- DropIndex
DROP INDEX "Evaluation_checkpointId_idx";

-- CreateIndex
CREATE INDEX "Dataset_createdAt_id_idx" ON "Dataset"("createdAt", "id");

-- CreateIndex
CREATE INDEX "Checkpoint_encoder_id_idx" ON "Checkpoint"("encoder", "id");

-- CreateIndex
CREATE INDEX "Checkpoint_modelId_id_idx" ON "Checkpoint"("modelId", "id");

-- CreateIndex
CREATE INDEX "CheckpointTrainedOn_datasetVersionId_checkpointId_idx" ON "CheckpointTrainedOn"("datasetVersionId", "checkpointId");

-- CreateIndex
CREATE INDEX "Run_kind_status_id_idx" ON "Run"("kind", "status", "id");

-- CreateIndex
CREATE INDEX "Evaluation_datasetVersionId_protocol_id_idx" ON "Evaluation"("datasetVersionId", "protocol", "id");

-- CreateIndex
CREATE INDEX "Evaluation_datasetVersionId_id_idx" ON "Evaluation"("datasetVersionId", "id");

-- CreateIndex
CREATE INDEX "Evaluation_checkpointId_id_idx" ON "Evaluation"("checkpointId", "id");

-- CreateIndex
CREATE INDEX "Evaluation_protocol_id_idx" ON "Evaluation"("protocol", "id");

-- Expressions, which schema.prisma can not say: each is what src/modules/datasets/dataset-list.store.ts sorts by, word for word.
CREATE INDEX "Dataset_lower_name_id_idx" ON "Dataset" (lower("name"), "id");
CREATE INDEX "Dataset_imageCount_ascending_idx" ON "Dataset" (coalesce("imageCount", 2147483647), "id");
CREATE INDEX "Dataset_imageCount_descending_idx" ON "Dataset" (coalesce("imageCount", -1), "id");
CREATE INDEX "Dataset_publishedYear_ascending_idx" ON "Dataset" (coalesce("publishedYear", 2147483647), "id");
CREATE INDEX "Dataset_publishedYear_descending_idx" ON "Dataset" (coalesce("publishedYear", -1), "id");
