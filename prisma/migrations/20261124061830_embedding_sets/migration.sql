-- CreateEnum
CREATE TYPE "EmbeddingSource" AS ENUM ('CHECKPOINT', 'RANDOM_ENCODER', 'COLOUR_STATISTICS');

-- CreateTable
CREATE TABLE "EmbeddingSet" (
    "id" UUID NOT NULL,
    "source" "EmbeddingSource" NOT NULL,
    "encoderDigest" TEXT NOT NULL,
    "datasetDigest" TEXT NOT NULL,
    "preparationDigest" TEXT NOT NULL,
    "imageCount" INTEGER NOT NULL,
    "embeddingDim" INTEGER NOT NULL,
    "sha256" TEXT NOT NULL,
    "idsSha256" TEXT NOT NULL,
    "engine" JSONB NOT NULL,
    "createdAt" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "EmbeddingSet_pkey" PRIMARY KEY ("id")
);

-- CreateIndex
CREATE INDEX "EmbeddingSet_datasetDigest_idx" ON "EmbeddingSet"("datasetDigest");

-- CreateIndex
CREATE INDEX "EmbeddingSet_sha256_idx" ON "EmbeddingSet"("sha256");

-- CreateIndex
CREATE INDEX "EmbeddingSet_idsSha256_idx" ON "EmbeddingSet"("idsSha256");

-- CreateIndex
CREATE UNIQUE INDEX "EmbeddingSet_encoderDigest_datasetDigest_preparationDigest_key" ON "EmbeddingSet"("encoderDigest", "datasetDigest", "preparationDigest");

-- AddForeignKey
ALTER TABLE "EmbeddingSet" ADD CONSTRAINT "EmbeddingSet_sha256_fkey" FOREIGN KEY ("sha256") REFERENCES "Artifact"("sha256") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "EmbeddingSet" ADD CONSTRAINT "EmbeddingSet_idsSha256_fkey" FOREIGN KEY ("idsSha256") REFERENCES "Artifact"("sha256") ON DELETE RESTRICT ON UPDATE CASCADE;
