-- DropIndex
DROP INDEX "Run_status_queuedAt_idx";

-- AlterTable
ALTER TABLE "Run" ADD COLUMN     "busySeconds" DOUBLE PRECISION NOT NULL DEFAULT 0,
ADD COLUMN     "deviceId" TEXT,
ADD COLUMN     "launchedBy" TEXT,
ADD COLUMN     "maxDurationSeconds" INTEGER,
ADD COLUMN     "microBatchSize" INTEGER,
ADD COLUMN     "turn" INTEGER NOT NULL DEFAULT 0;

-- CreateTable
CREATE TABLE "RunMetricChunk" (
    "runId" UUID NOT NULL,
    "name" TEXT NOT NULL,
    "firstStep" INTEGER NOT NULL,
    "lastStep" INTEGER NOT NULL,
    "steps" INTEGER[],
    "values" DOUBLE PRECISION[],
    "recordedAts" TIMESTAMPTZ(3)[],
    "minValue" DOUBLE PRECISION NOT NULL,
    "minStep" INTEGER NOT NULL,
    "minRecordedAt" TIMESTAMPTZ(3) NOT NULL,
    "maxValue" DOUBLE PRECISION NOT NULL,
    "maxStep" INTEGER NOT NULL,
    "maxRecordedAt" TIMESTAMPTZ(3) NOT NULL,

    CONSTRAINT "RunMetricChunk_pkey" PRIMARY KEY ("runId","name","firstStep")
);

-- CreateIndex
CREATE INDEX "Run_status_turn_queuedAt_id_idx" ON "Run"("status", "turn", "queuedAt", "id");

-- CreateIndex
CREATE INDEX "Run_kind_turn_idx" ON "Run"("kind", "turn");

-- CreateIndex
CREATE INDEX "Run_launchedBy_kind_turn_idx" ON "Run"("launchedBy", "kind", "turn");

-- AddForeignKey
ALTER TABLE "RunMetricChunk" ADD CONSTRAINT "RunMetricChunk_runId_fkey" FOREIGN KEY ("runId") REFERENCES "Run"("id") ON DELETE CASCADE ON UPDATE CASCADE;

-- Points that are there move into chunks.
INSERT INTO "RunMetricChunk"
SELECT "runId", name, min(step), max(step),
  array_agg(step ORDER BY step), array_agg(value ORDER BY step), array_agg("recordedAt" ORDER BY step),
  min(value), (array_agg(step ORDER BY value, step))[1], (array_agg("recordedAt" ORDER BY value, step))[1],
  max(value), (array_agg(step ORDER BY value DESC, step))[1], (array_agg("recordedAt" ORDER BY value DESC, step))[1]
FROM (SELECT *, (row_number() OVER (PARTITION BY "runId", name ORDER BY step) - 1) / 128 AS chunk FROM "RunMetricPoint") AS point
GROUP BY "runId", name, chunk;

-- DropTable
DROP TABLE "RunMetricPoint";

-- Adds points to a series. Steps only rise: one that a restarted run tells again is left as it was told first.
CREATE FUNCTION append_run_metrics(run uuid, series text, new_steps int[], new_values float8[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  tail record;
  added record;
  moment CONSTANT timestamptz(3) := now();
BEGIN
  SELECT "firstStep", "lastStep", cardinality(steps) AS size INTO tail
  FROM "RunMetricChunk" WHERE "runId" = run AND name = series ORDER BY "firstStep" DESC LIMIT 1;

  SELECT array_agg(step ORDER BY step) AS steps, array_agg(value ORDER BY step) AS values, min(step) AS first_step, max(step) AS last_step,
    min(value) AS min_value, (array_agg(step ORDER BY value, step))[1] AS min_step,
    max(value) AS max_value, (array_agg(step ORDER BY value DESC, step))[1] AS max_step
  INTO added
  FROM (SELECT DISTINCT ON (step) step, value FROM unnest(new_steps, new_values) AS point(step, value) WHERE tail."lastStep" IS NULL OR step > tail."lastStep" ORDER BY step) AS fresh;
  IF added.steps IS NULL THEN RETURN; END IF;

  IF tail.size < 128 THEN
    UPDATE "RunMetricChunk" SET
      "lastStep" = added.last_step, steps = steps || added.steps, "values" = "values" || added.values,
      "recordedAts" = "recordedAts" || array_fill(moment, ARRAY[cardinality(added.steps)]),
      "minStep" = CASE WHEN added.min_value < "minValue" THEN added.min_step ELSE "minStep" END,
      "minRecordedAt" = CASE WHEN added.min_value < "minValue" THEN moment ELSE "minRecordedAt" END,
      "minValue" = least("minValue", added.min_value),
      "maxStep" = CASE WHEN added.max_value > "maxValue" THEN added.max_step ELSE "maxStep" END,
      "maxRecordedAt" = CASE WHEN added.max_value > "maxValue" THEN moment ELSE "maxRecordedAt" END,
      "maxValue" = greatest("maxValue", added.max_value)
    WHERE "runId" = run AND name = series AND "firstStep" = tail."firstStep";
  ELSE
    INSERT INTO "RunMetricChunk" VALUES (
      run, series, added.first_step, added.last_step, added.steps, added.values, array_fill(moment, ARRAY[cardinality(added.steps)]),
      added.min_value, added.min_step, moment, added.max_value, added.max_step, moment);
  END IF;
END $$;

-- One run on a device at a time, whoever places it.
CREATE UNIQUE INDEX "Run_deviceId_busy_key" ON "Run"("deviceId") WHERE status IN ('RUNNING', 'CANCELING');

-- Fencing. A worker's transaction carries its lease as the setting paraffin.lease, "<run id>:<epoch>". Whatever belongs to a
-- run that a worker has taken is written under that lease alone, and no longer than it holds. (A restore that copies rows
-- into a migrated database sets session_replication_role to replica, as pg_restore --disable-triggers does.)
CREATE FUNCTION refuse_stale_lease(run uuid, is_required boolean) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  carried CONSTANT text := nullif(current_setting('paraffin.lease', true), '');
BEGIN
  IF carried IS NULL THEN
    IF is_required AND EXISTS (SELECT 1 FROM "Run" WHERE id = run AND "leaseEpoch" > 0) THEN
      RAISE EXCEPTION 'Run % is written to under its lease alone, and this transaction carries none.', run USING ERRCODE = 'PF001';
    END IF;
    RETURN;
  END IF;
  PERFORM 1 FROM "Run"
  WHERE id = run AND id = split_part(carried, ':', 1)::uuid AND "leaseEpoch" = split_part(carried, ':', 2)::int AND status IN ('RUNNING', 'CANCELING')
  FOR UPDATE;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'The lease % does not hold run %.', carried, run USING ERRCODE = 'PF001';
  END IF;
END $$;

CREATE FUNCTION fence_by_run_id() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM refuse_stale_lease(NEW."runId", true);
  RETURN NEW;
END $$;
CREATE TRIGGER fence BEFORE INSERT OR UPDATE ON "RunMetricChunk" FOR EACH ROW EXECUTE FUNCTION fence_by_run_id();
CREATE TRIGGER fence BEFORE INSERT OR UPDATE ON "TrainingState" FOR EACH ROW EXECUTE FUNCTION fence_by_run_id();
CREATE TRIGGER fence BEFORE INSERT ON "Evaluation" FOR EACH ROW EXECUTE FUNCTION fence_by_run_id();

-- The server tells of launches, cancels and silent workers, and has no lease.
CREATE FUNCTION fence_event() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM refuse_stale_lease(NEW."runId", NEW.kind IN ('PROGRESS', 'METRICS', 'CHECKPOINT', 'SUCCEEDED'));
  RETURN NEW;
END $$;
CREATE TRIGGER fence BEFORE INSERT ON "RunEvent" FOR EACH ROW EXECUTE FUNCTION fence_event();

CREATE FUNCTION fence_by_source_run() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM refuse_stale_lease(NEW."sourceRunId", true);
  RETURN NEW;
END $$;
CREATE TRIGGER fence BEFORE INSERT ON "Checkpoint" FOR EACH ROW WHEN (NEW."sourceRunId" IS NOT NULL) EXECUTE FUNCTION fence_by_source_run();

CREATE FUNCTION fence_by_import_run() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM refuse_stale_lease(NEW."importRunId", true);
  RETURN NEW;
END $$;
CREATE TRIGGER fence BEFORE INSERT ON "DatasetVersion" FOR EACH ROW WHEN (NEW."importRunId" IS NOT NULL) EXECUTE FUNCTION fence_by_import_run();
CREATE TRIGGER fence_sealing BEFORE UPDATE ON "DatasetVersion" FOR EACH ROW
  WHEN (NEW."importRunId" IS NOT NULL AND OLD.status = 'DRAFT' AND NEW.status = 'SEALED') EXECUTE FUNCTION fence_by_import_run();

-- The row itself: a stale worker changes nothing, an epoch never falls, and what has ended stays as it is, but for a resume.
CREATE FUNCTION fence_run() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  carried CONSTANT text := nullif(current_setting('paraffin.lease', true), '');
BEGIN
  IF carried IS NOT NULL AND (carried <> OLD.id || ':' || OLD."leaseEpoch" OR OLD.status NOT IN ('RUNNING', 'CANCELING')) THEN
    RAISE EXCEPTION 'The lease % does not hold run %.', carried, OLD.id USING ERRCODE = 'PF001';
  END IF;
  IF NEW."leaseEpoch" < OLD."leaseEpoch" THEN
    RAISE EXCEPTION 'The epoch of run % never falls.', OLD.id USING ERRCODE = 'PF001';
  END IF;
  IF NEW.status <> OLD.status AND (OLD.status = 'SUCCEEDED' OR (OLD.status IN ('FAILED', 'CANCELED') AND NEW.status <> 'QUEUED')) THEN
    RAISE EXCEPTION 'Run % has ended as % and can not become %.', OLD.id, OLD.status, NEW.status USING ERRCODE = 'PF001';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER fence BEFORE UPDATE ON "Run" FOR EACH ROW EXECUTE FUNCTION fence_run();
