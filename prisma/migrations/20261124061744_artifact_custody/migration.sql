-- CreateEnum
CREATE TYPE "TombstoneKind" AS ENUM ('DATASET', 'DATASET_VERSION', 'MODEL', 'CHECKPOINT', 'RUN');

-- DropForeignKey
ALTER TABLE "Checkpoint" DROP CONSTRAINT "Checkpoint_sha256_fkey";

-- AlterTable
ALTER TABLE "Artifact" ADD COLUMN     "damagedAt" TIMESTAMPTZ(3),
ADD COLUMN     "recordedAt" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP;

-- CreateTable
CREATE TABLE "Tombstone" (
    "id" UUID NOT NULL,
    "kind" "TombstoneKind" NOT NULL,
    "name" TEXT NOT NULL,
    "digest" TEXT,
    "reason" TEXT NOT NULL,
    "deletedBy" TEXT NOT NULL,
    "deletedByKey" UUID,
    "deletedAt" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "Tombstone_pkey" PRIMARY KEY ("id")
);

-- CreateIndex
CREATE INDEX "Tombstone_deletedAt_id_idx" ON "Tombstone"("deletedAt", "id");

-- CreateIndex
CREATE INDEX "DatasetVersion_manifestSha256_idx" ON "DatasetVersion"("manifestSha256");

-- AddForeignKey
ALTER TABLE "DatasetVersion" ADD CONSTRAINT "DatasetVersion_manifestSha256_fkey" FOREIGN KEY ("manifestSha256") REFERENCES "Artifact"("sha256") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "Checkpoint" ADD CONSTRAINT "Checkpoint_sha256_fkey" FOREIGN KEY ("sha256") REFERENCES "Artifact"("sha256") ON DELETE RESTRICT ON UPDATE CASCADE;
