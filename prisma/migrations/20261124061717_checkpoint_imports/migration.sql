-- CreateTable
CREATE TABLE "CheckpointImport" (
    "idempotencyKey" TEXT NOT NULL,
    "inputDigest" TEXT NOT NULL,
    "checkpointId" UUID NOT NULL,
    "createdAt" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "CheckpointImport_pkey" PRIMARY KEY ("idempotencyKey")
);

-- CreateIndex
CREATE INDEX "CheckpointImport_checkpointId_idx" ON "CheckpointImport"("checkpointId");

-- AddForeignKey
ALTER TABLE "CheckpointImport" ADD CONSTRAINT "CheckpointImport_checkpointId_fkey" FOREIGN KEY ("checkpointId") REFERENCES "Checkpoint"("id") ON DELETE CASCADE ON UPDATE CASCADE;
