-- CreateIndex
CREATE INDEX "Artifact_mediaType_recordedAt_idx" ON "Artifact"("mediaType", "recordedAt");
