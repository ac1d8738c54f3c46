-- CreateTable
CREATE TABLE "EmbeddingBlock" (
    "runId" UUID NOT NULL,
    "encoderDigest" TEXT NOT NULL,
    "preparationDigest" TEXT NOT NULL,
    "position" INTEGER NOT NULL,
    "imageCount" INTEGER NOT NULL,
    "sha256" TEXT NOT NULL,
    "engine" JSONB NOT NULL,

    CONSTRAINT "EmbeddingBlock_pkey" PRIMARY KEY ("runId","encoderDigest","preparationDigest","position")
);

-- CreateIndex
CREATE INDEX "EmbeddingBlock_sha256_idx" ON "EmbeddingBlock"("sha256");

-- AddForeignKey
ALTER TABLE "EmbeddingBlock" ADD CONSTRAINT "EmbeddingBlock_runId_fkey" FOREIGN KEY ("runId") REFERENCES "Run"("id") ON DELETE CASCADE ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "EmbeddingBlock" ADD CONSTRAINT "EmbeddingBlock_sha256_fkey" FOREIGN KEY ("sha256") REFERENCES "Artifact"("sha256") ON DELETE RESTRICT ON UPDATE CASCADE;

-- A worker that no longer holds the run stores no block.
CREATE TRIGGER fence BEFORE INSERT OR UPDATE ON "EmbeddingBlock" FOR EACH ROW EXECUTE FUNCTION fence_by_run_id();
