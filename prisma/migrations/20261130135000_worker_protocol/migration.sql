-- AlterEnum
ALTER TYPE "AccessAction" ADD VALUE 'WORK';

-- AlterTable
ALTER TABLE "Run" ADD COLUMN     "leaseTokenDigest" TEXT,
ADD COLUMN     "reportSequence" INTEGER NOT NULL DEFAULT 0;
