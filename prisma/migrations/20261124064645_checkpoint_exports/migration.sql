-- CreateEnum
CREATE TYPE "ExportFormat" AS ENUM ('PYTORCH', 'ONNX', 'TFJS');

-- CreateEnum
CREATE TYPE "ExportStatus" AS ENUM ('AVAILABLE', 'REFUSED');

-- CreateTable
CREATE TABLE "CheckpointExport" (
    "checkpointId" UUID NOT NULL,
    "format" "ExportFormat" NOT NULL,
    "status" "ExportStatus" NOT NULL,
    "sha256" TEXT,
    "byteSize" BIGINT,
    "maxRelativeDifference" DOUBLE PRECISION,
    "reason" TEXT,
    "checkedAt" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "runId" UUID NOT NULL,

    CONSTRAINT "CheckpointExport_pkey" PRIMARY KEY ("checkpointId","format")
);

-- CreateIndex
CREATE INDEX "CheckpointExport_sha256_idx" ON "CheckpointExport"("sha256");

-- CreateIndex
CREATE INDEX "CheckpointExport_runId_idx" ON "CheckpointExport"("runId");

-- AddForeignKey
ALTER TABLE "CheckpointExport" ADD CONSTRAINT "CheckpointExport_checkpointId_fkey" FOREIGN KEY ("checkpointId") REFERENCES "Checkpoint"("id") ON DELETE CASCADE ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "CheckpointExport" ADD CONSTRAINT "CheckpointExport_sha256_fkey" FOREIGN KEY ("sha256") REFERENCES "Artifact"("sha256") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "CheckpointExport" ADD CONSTRAINT "CheckpointExport_runId_fkey" FOREIGN KEY ("runId") REFERENCES "Run"("id") ON DELETE RESTRICT ON UPDATE CASCADE;
