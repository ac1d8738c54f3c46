-- CreateEnum
CREATE TYPE "AccessAction" AS ENUM ('READ', 'CATALOGUE', 'IMPORT', 'LAUNCH', 'DELETE', 'ADMINISTER');

-- AlterTable: until now there was one key, the administrator's, and it was not limited.
ALTER TABLE "AccessKey" ADD COLUMN     "actions" "AccessAction"[] DEFAULT '{}',
ADD COLUMN     "owner" TEXT NOT NULL DEFAULT 'admin',
ADD COLUMN     "resources" TEXT[] DEFAULT '{}';
ALTER TABLE "AccessKey" ALTER COLUMN "actions" DROP DEFAULT,
ALTER COLUMN "owner" DROP DEFAULT,
ALTER COLUMN "resources" DROP DEFAULT;
