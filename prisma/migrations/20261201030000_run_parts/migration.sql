-- CreateTable
CREATE TABLE "RunPart" (
    "runId" UUID NOT NULL,
    "number" INTEGER NOT NULL,
    "planSha256" TEXT NOT NULL,
    "epoch" INTEGER NOT NULL DEFAULT 0,
    "isOfLead" BOOLEAN NOT NULL DEFAULT false,
    "workerName" TEXT,
    "leaseTokenDigest" TEXT,
    "leaseExpiresAt" TIMESTAMPTZ(3),
    "givenBack" JSONB NOT NULL DEFAULT '[]',
    "factsSha256" TEXT,
    "patchesSha256" TEXT,

    CONSTRAINT "RunPart_pkey" PRIMARY KEY ("runId","number")
);

-- CreateIndex
CREATE INDEX "RunPart_planSha256_idx" ON "RunPart"("planSha256");

-- CreateIndex
CREATE INDEX "RunPart_factsSha256_idx" ON "RunPart"("factsSha256");

-- CreateIndex
CREATE INDEX "RunPart_patchesSha256_idx" ON "RunPart"("patchesSha256");

-- AddForeignKey
ALTER TABLE "RunPart" ADD CONSTRAINT "RunPart_runId_fkey" FOREIGN KEY ("runId") REFERENCES "Run"("id") ON DELETE CASCADE ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "RunPart" ADD CONSTRAINT "RunPart_planSha256_fkey" FOREIGN KEY ("planSha256") REFERENCES "Artifact"("sha256") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "RunPart" ADD CONSTRAINT "RunPart_factsSha256_fkey" FOREIGN KEY ("factsSha256") REFERENCES "Artifact"("sha256") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "RunPart" ADD CONSTRAINT "RunPart_patchesSha256_fkey" FOREIGN KEY ("patchesSha256") REFERENCES "Artifact"("sha256") ON DELETE RESTRICT ON UPDATE CASCADE;

-- Only the worker that holds the run plans its parts. Workers of the parts have no lease of the run, and change only rows
-- that there are.
CREATE FUNCTION fence_part() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM refuse_stale_lease(NEW."runId", TG_OP = 'INSERT');
  RETURN NEW;
END $$;
CREATE TRIGGER fence BEFORE INSERT OR UPDATE ON "RunPart" FOR EACH ROW EXECUTE FUNCTION fence_part();
