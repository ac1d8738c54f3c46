-- AlterTable
ALTER TABLE "Run" ADD COLUMN     "excludedWorkers" TEXT[] DEFAULT ARRAY[]::TEXT[],
ADD COLUMN     "requirements" JSONB NOT NULL DEFAULT '{}';

-- AlterTable
ALTER TABLE "Worker" ADD COLUMN     "places" JSONB NOT NULL DEFAULT '{}';

-- What the queue already holds needs what it needed before.
UPDATE "Run" SET "requirements" = '{"bfloat16": true}' WHERE "kind" = 'PRETRAINING' AND "status" = 'QUEUED' AND "config"->>'precision' = 'BFLOAT16';
