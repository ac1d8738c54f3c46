-- Full-text search reads one stored vector: English stems for meaning, plain words for what is still being typed.
DROP INDEX "Dataset_searchText_idx";

ALTER TABLE "Dataset" ADD COLUMN     "parentCollections" TEXT[],
ADD COLUMN     "searchVector" tsvector GENERATED ALWAYS AS (
  setweight(to_tsvector('english', "name" || ' ' || "slug" || ' ' || replace("slug", '-', ' ')), 'A')
  || setweight(to_tsvector('english', "searchText"), 'C')
  || setweight(to_tsvector('simple', "name" || ' ' || replace("slug", '-', ' ') || ' ' || "searchText"), 'D')
) STORED;

-- AlterTable
ALTER TABLE "DatasetResolution" ADD COLUMN     "totalMagnification" DOUBLE PRECISION;

-- CreateIndex
CREATE INDEX "Dataset_searchVector_idx" ON "Dataset" USING GIN ("searchVector");

-- A sealed version never changes, whatever program writes. Only the link to its import run may be cut, when that run is deleted.
CREATE FUNCTION refuse_change_of_sealed_version() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF to_jsonb(NEW) - 'importRunId' IS DISTINCT FROM to_jsonb(OLD) - 'importRunId' THEN
    RAISE EXCEPTION 'dataset version % is sealed', OLD."id";
  END IF;
  RETURN NEW;
END $$;

CREATE TRIGGER "DatasetVersion_sealed" BEFORE UPDATE ON "DatasetVersion"
  FOR EACH ROW WHEN (OLD."status" = 'SEALED') EXECUTE FUNCTION refuse_change_of_sealed_version();

-- Nor do its shards and thumbnails. They go with a version that is deleted whole: by then its row is gone.
CREATE FUNCTION refuse_change_of_sealed_parts() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF EXISTS (
    SELECT 1 FROM "DatasetVersion" v
    WHERE v."status" = 'SEALED' AND ((TG_OP <> 'INSERT' AND v."id" = OLD."datasetVersionId") OR (TG_OP <> 'DELETE' AND v."id" = NEW."datasetVersionId"))
  ) THEN
    RAISE EXCEPTION '% of a sealed dataset version', TG_TABLE_NAME;
  END IF;
  IF TG_OP = 'DELETE' THEN RETURN OLD; END IF;
  RETURN NEW;
END $$;

CREATE TRIGGER "DatasetShard_sealed" BEFORE INSERT OR UPDATE OR DELETE ON "DatasetShard"
  FOR EACH ROW EXECUTE FUNCTION refuse_change_of_sealed_parts();
CREATE TRIGGER "DatasetThumbnail_sealed" BEFORE INSERT OR UPDATE OR DELETE ON "DatasetThumbnail"
  FOR EACH ROW EXECUTE FUNCTION refuse_change_of_sealed_parts();
