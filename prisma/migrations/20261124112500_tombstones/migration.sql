-- AlterTable
ALTER TABLE "Tombstone" ADD COLUMN     "parentId" UUID,
ADD COLUMN     "version" INTEGER;

-- CreateIndex
CREATE INDEX "Tombstone_parentId_version_idx" ON "Tombstone"("parentId", "version");

-- What was deleted stays told.
CREATE FUNCTION refuse_tombstone_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'Tombstones stay as they are: % is refused.', TG_OP;
END $$;
CREATE TRIGGER stays BEFORE UPDATE OR DELETE OR TRUNCATE ON "Tombstone" FOR EACH STATEMENT EXECUTE FUNCTION refuse_tombstone_change();
