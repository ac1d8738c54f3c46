-- CreateEnum
CREATE TYPE "DatasetDigestRule" AS ENUM ('PIXELS', 'MANIFEST_FILE');

-- Every version so far is of the old rule. A default gives it to them: an UPDATE of sealed versions is refused.
ALTER TABLE "DatasetVersion" ADD COLUMN     "digestRule" "DatasetDigestRule" NOT NULL DEFAULT 'MANIFEST_FILE';
ALTER TABLE "DatasetVersion" ALTER COLUMN "digestRule" SET DEFAULT 'PIXELS';
