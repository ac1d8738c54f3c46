-- AlterTable
ALTER TABLE "Run" ADD COLUMN     "fruitlessAttempts" INTEGER NOT NULL DEFAULT 0;
