-- AlterTable
ALTER TABLE "Checkpoint" ADD COLUMN     "publishedSlug" TEXT,
ADD COLUMN     "trainingFacts" JSONB;

-- CreateIndex
CREATE UNIQUE INDEX "Checkpoint_publishedSlug_key" ON "Checkpoint"("publishedSlug");
