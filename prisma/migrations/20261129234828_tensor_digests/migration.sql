-- AlterTable
ALTER TABLE "Checkpoint" ADD COLUMN     "tensorDigest" TEXT;

-- CreateIndex
CREATE INDEX "Checkpoint_tensorDigest_idx" ON "Checkpoint"("tensorDigest");
