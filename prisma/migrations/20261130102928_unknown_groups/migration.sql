-- AlterTable
ALTER TABLE "DatasetVersion" ADD COLUMN     "ungroupedImageCount" INTEGER;

-- AlterTable
ALTER TABLE "Evaluation" ADD COLUMN     "ungroupedImageCount" INTEGER;

-- A sealed version never changes, whatever program writes. Only the link to its import run may be cut, when that run is deleted; and the groups of a version that was sealed before unknown groups were null are counted once.
CREATE OR REPLACE FUNCTION refuse_change_of_sealed_version() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  changeable text[] := CASE WHEN OLD."ungroupedImageCount" IS NULL THEN ARRAY['importRunId', 'groupCount', 'ungroupedImageCount'] ELSE ARRAY['importRunId'] END;
BEGIN
  IF to_jsonb(NEW) - changeable IS DISTINCT FROM to_jsonb(OLD) - changeable THEN
    RAISE EXCEPTION 'dataset version % is sealed', OLD."id";
  END IF;
  RETURN NEW;
END $$;
