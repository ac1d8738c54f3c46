-- AlterEnum
ALTER TYPE "RunKind" ADD VALUE 'EXPORT';
