-- AlterTable
ALTER TABLE "RunMetricChunk" ADD COLUMN     "isCompacted" BOOLEAN NOT NULL DEFAULT false;

-- A row that only repeats points of older rows needs no lease: garbage collection makes it for runs that have ended.
DROP TRIGGER fence ON "RunMetricChunk";
CREATE TRIGGER fence BEFORE INSERT OR UPDATE ON "RunMetricChunk" FOR EACH ROW WHEN (NOT NEW."isCompacted") EXECUTE FUNCTION fence_by_run_id();
