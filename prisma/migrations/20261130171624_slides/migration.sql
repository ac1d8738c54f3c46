-- CreateEnum
CREATE TYPE "SlideStatus" AS ENUM ('IMPORTED', 'LEFT_OUT');

-- CreateTable
CREATE TABLE "Slide" (
    "datasetVersionId" UUID NOT NULL,
    "position" INTEGER NOT NULL,
    "path" TEXT NOT NULL,
    "status" "SlideStatus" NOT NULL,
    "issueKind" TEXT,
    "reason" TEXT,
    "fileDigest" TEXT,
    "fileByteSize" BIGINT,
    "label" TEXT,
    "group" TEXT,
    "split" TEXT,
    "vendor" TEXT,
    "levels" JSONB NOT NULL DEFAULT '[]',
    "micronsPerPixelX" DOUBLE PRECISION,
    "micronsPerPixelY" DOUBLE PRECISION,
    "micronsPerPixelSource" TEXT,
    "micronsPerPixelProperty" TEXT,
    "objective" DOUBLE PRECISION,
    "patchCount" INTEGER NOT NULL DEFAULT 0,
    "tissueFraction" DOUBLE PRECISION,
    "penFraction" DOUBLE PRECISION,
    "thumbnailSha256" TEXT,
    "tissueMaskSha256" TEXT,

    CONSTRAINT "Slide_pkey" PRIMARY KEY ("datasetVersionId","position")
);

-- CreateIndex
CREATE INDEX "Slide_thumbnailSha256_idx" ON "Slide"("thumbnailSha256");

-- CreateIndex
CREATE INDEX "Slide_tissueMaskSha256_idx" ON "Slide"("tissueMaskSha256");

-- AddForeignKey
ALTER TABLE "Slide" ADD CONSTRAINT "Slide_datasetVersionId_fkey" FOREIGN KEY ("datasetVersionId") REFERENCES "DatasetVersion"("id") ON DELETE CASCADE ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "Slide" ADD CONSTRAINT "Slide_thumbnailSha256_fkey" FOREIGN KEY ("thumbnailSha256") REFERENCES "Artifact"("sha256") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "Slide" ADD CONSTRAINT "Slide_tissueMaskSha256_fkey" FOREIGN KEY ("tissueMaskSha256") REFERENCES "Artifact"("sha256") ON DELETE RESTRICT ON UPDATE CASCADE;

-- Slides of a sealed version never change, as its shards and thumbnails.
CREATE TRIGGER "Slide_sealed" BEFORE INSERT OR UPDATE OR DELETE ON "Slide"
  FOR EACH ROW EXECUTE FUNCTION refuse_change_of_sealed_parts();
