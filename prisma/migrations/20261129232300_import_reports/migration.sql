-- CreateTable
CREATE TABLE "ImportReport" (
    "runId" UUID NOT NULL,
    "report" JSONB NOT NULL,

    CONSTRAINT "ImportReport_pkey" PRIMARY KEY ("runId")
);

-- AddForeignKey
ALTER TABLE "ImportReport" ADD CONSTRAINT "ImportReport_runId_fkey" FOREIGN KEY ("runId") REFERENCES "Run"("id") ON DELETE CASCADE ON UPDATE CASCADE;
