-- What a run makes of what, in one line. Older runs get theirs from what their config names, as far as it is still there.
ALTER TABLE "Run" ADD COLUMN     "title" TEXT;

UPDATE "Run" AS run SET "title" = coalesce(
  CASE run.kind
    WHEN 'PRETRAINING' THEN run.config->>'modelSlug' || ': ' || lower(run.config->>'encoder') || ', ' || (run.config->>'steps') || ' steps'
    WHEN 'IMPORT' THEN (
      SELECT dataset.slug || ' from ' || coalesce(substring(run.config->>'path' FROM '[^/]+$'), run.config->>'path')
      FROM "Dataset" AS dataset WHERE dataset.id::text = run.config->>'datasetId')
    WHEN 'EVALUATION' THEN (
      SELECT lower(replace(run.config->>'protocol', '_', ' ')) || ' of ' || model.slug || '@' || checkpoint.version || ' on ' || dataset.slug || '@' || version.version
      FROM "Checkpoint" AS checkpoint JOIN "Model" AS model ON model.id = checkpoint."modelId",
        "DatasetVersion" AS version JOIN "Dataset" AS dataset ON dataset.id = version."datasetId"
      WHERE checkpoint.id::text = run.config->>'checkpointId' AND version.id::text = run.config->>'datasetVersionId')
    WHEN 'EXPORT' THEN (
      SELECT model.slug || '@' || checkpoint.version || ', exported'
      FROM "Checkpoint" AS checkpoint JOIN "Model" AS model ON model.id = checkpoint."modelId" WHERE checkpoint.id::text = run.config->>'checkpointId')
  END,
  lower(run.kind::text));

ALTER TABLE "Run" ALTER COLUMN "title" SET NOT NULL;
