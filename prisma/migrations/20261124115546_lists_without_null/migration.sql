-- AlterTable
ALTER TABLE "Dataset" ALTER COLUMN "paperRoles" SET DEFAULT ARRAY[]::TEXT[],
ALTER COLUMN "sourceUrls" SET DEFAULT ARRAY[]::TEXT[];

-- Datasets that people made before had NULL where the API promises a list.
UPDATE "Dataset" SET "paperRoles" = ARRAY[]::TEXT[] WHERE "paperRoles" IS NULL;
UPDATE "Dataset" SET "sourceUrls" = ARRAY[]::TEXT[] WHERE "sourceUrls" IS NULL;
