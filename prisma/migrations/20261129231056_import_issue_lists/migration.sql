-- AlterTable
ALTER TABLE "DatasetVersion" ADD COLUMN     "issueListSha256" TEXT;

-- CreateIndex
CREATE INDEX "DatasetVersion_issueListSha256_idx" ON "DatasetVersion"("issueListSha256");

-- AddForeignKey
ALTER TABLE "DatasetVersion" ADD CONSTRAINT "DatasetVersion_issueListSha256_fkey" FOREIGN KEY ("issueListSha256") REFERENCES "Artifact"("sha256") ON DELETE RESTRICT ON UPDATE CASCADE;
