-- AlterTable
ALTER TABLE "Checkpoint" ADD COLUMN     "probe" JSONB;

-- AlterTable
ALTER TABLE "TrainingState" ADD COLUMN     "probe" JSONB,
ADD COLUMN     "probeMacroF1" DOUBLE PRECISION;

-- A checkpoint that is made of a kept state needs no lease of its own: the state was written under one, and is not changed
-- by anybody else.
CREATE OR REPLACE FUNCTION fence_by_source_run() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM refuse_stale_lease(NEW."sourceRunId", NOT EXISTS (
    SELECT 1 FROM "TrainingState" WHERE "runId" = NEW."sourceRunId" AND step = NEW.step));
  RETURN NEW;
END $$;
