-- AlterEnum
ALTER TYPE "EncoderArchitecture" ADD VALUE 'OTHER';

-- AlterTable
ALTER TABLE "Checkpoint" ADD COLUMN     "architecture" JSONB;

-- Each network is specified in one place: by its name, or by the column. Compared as text, because a new value of an
-- enum cannot be used in the transaction that adds it.
ALTER TABLE "Checkpoint" ADD CONSTRAINT "Checkpoint_architecture_check" CHECK (("encoder"::text = 'OTHER') = ("architecture" IS NOT NULL));
