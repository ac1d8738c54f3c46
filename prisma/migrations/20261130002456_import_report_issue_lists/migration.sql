-- AlterTable
ALTER TABLE "ImportReport" ADD COLUMN     "issueListSha256" TEXT;

-- CreateIndex
CREATE INDEX "ImportReport_issueListSha256_idx" ON "ImportReport"("issueListSha256");

-- AddForeignKey
ALTER TABLE "ImportReport" ADD CONSTRAINT "ImportReport_issueListSha256_fkey" FOREIGN KEY ("issueListSha256") REFERENCES "Artifact"("sha256") ON DELETE RESTRICT ON UPDATE CASCADE;
