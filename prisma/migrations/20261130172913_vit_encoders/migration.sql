-- AlterEnum
ALTER TYPE "EncoderArchitecture" ADD VALUE 'VIT_TI16';
ALTER TYPE "EncoderArchitecture" ADD VALUE 'VIT_S16';
ALTER TYPE "EncoderArchitecture" ADD VALUE 'VIT_B16';
