-- CreateEnum
CREATE TYPE "PlacementState" AS ENUM ('PLANNED', 'SUBMITTING', 'WAITING', 'RUNNING', 'UNKNOWN', 'ENDED');

-- CreateTable
CREATE TABLE "Placement" (
    "id" UUID NOT NULL,
    "runId" UUID NOT NULL,
    "attempt" INTEGER NOT NULL,
    "number" INTEGER NOT NULL,
    "launcher" TEXT NOT NULL,
    "name" TEXT NOT NULL,
    "externalId" TEXT,
    "state" "PlacementState" NOT NULL DEFAULT 'PLANNED',
    "schedulerState" TEXT,
    "reason" TEXT,
    "position" INTEGER,
    "createdAt" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "submittedAt" TIMESTAMPTZ(3),
    "startedAt" TIMESTAMPTZ(3),
    "endedAt" TIMESTAMPTZ(3),

    CONSTRAINT "Placement_pkey" PRIMARY KEY ("id")
);

-- CreateIndex
CREATE UNIQUE INDEX "Placement_name_key" ON "Placement"("name");

-- CreateIndex
CREATE INDEX "Placement_launcher_state_idx" ON "Placement"("launcher", "state");

-- CreateIndex
CREATE UNIQUE INDEX "Placement_runId_number_key" ON "Placement"("runId", "number");

-- AddForeignKey
ALTER TABLE "Placement" ADD CONSTRAINT "Placement_runId_fkey" FOREIGN KEY ("runId") REFERENCES "Run"("id") ON DELETE CASCADE ON UPDATE CASCADE;

-- A run has at most one job that has not ended, whatever number of launchers there are.
CREATE UNIQUE INDEX "Placement_open" ON "Placement"("runId") WHERE state <> 'ENDED';
