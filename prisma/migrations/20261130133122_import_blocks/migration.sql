-- CreateTable
CREATE TABLE "ImportBlock" (
    "runId" UUID NOT NULL,
    "position" INTEGER NOT NULL,
    "sha256" TEXT NOT NULL,
    "shardSha256" TEXT,
    "progress" DOUBLE PRECISION NOT NULL,

    CONSTRAINT "ImportBlock_pkey" PRIMARY KEY ("runId","position")
);

-- CreateIndex
CREATE INDEX "ImportBlock_sha256_idx" ON "ImportBlock"("sha256");

-- CreateIndex
CREATE INDEX "ImportBlock_shardSha256_idx" ON "ImportBlock"("shardSha256");

-- AddForeignKey
ALTER TABLE "ImportBlock" ADD CONSTRAINT "ImportBlock_runId_fkey" FOREIGN KEY ("runId") REFERENCES "Run"("id") ON DELETE CASCADE ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "ImportBlock" ADD CONSTRAINT "ImportBlock_sha256_fkey" FOREIGN KEY ("sha256") REFERENCES "Artifact"("sha256") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "ImportBlock" ADD CONSTRAINT "ImportBlock_shardSha256_fkey" FOREIGN KEY ("shardSha256") REFERENCES "Artifact"("sha256") ON DELETE RESTRICT ON UPDATE CASCADE;

-- A worker that no longer holds the run stores no block.
CREATE TRIGGER fence BEFORE INSERT OR UPDATE ON "ImportBlock" FOR EACH ROW EXECUTE FUNCTION fence_by_run_id();
