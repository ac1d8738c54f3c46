-- AlterTable
ALTER TABLE "DatasetVersion" ADD COLUMN     "imageHashesSha256" TEXT;

-- AlterTable
ALTER TABLE "Evaluation" ADD COLUMN     "leakage" JSONB,
ADD COLUMN     "learningCurve" JSONB,
ADD COLUMN     "predictionsSha256" TEXT;

-- CreateIndex
CREATE INDEX "DatasetVersion_imageHashesSha256_idx" ON "DatasetVersion"("imageHashesSha256");

-- CreateIndex
CREATE INDEX "Evaluation_predictionsSha256_idx" ON "Evaluation"("predictionsSha256");

-- AddForeignKey
ALTER TABLE "DatasetVersion" ADD CONSTRAINT "DatasetVersion_imageHashesSha256_fkey" FOREIGN KEY ("imageHashesSha256") REFERENCES "Artifact"("sha256") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "Evaluation" ADD CONSTRAINT "Evaluation_predictionsSha256_fkey" FOREIGN KEY ("predictionsSha256") REFERENCES "Artifact"("sha256") ON DELETE RESTRICT ON UPDATE CASCADE;
