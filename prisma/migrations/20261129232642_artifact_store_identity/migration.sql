-- CreateTable
CREATE TABLE "ArtifactStoreIdentity" (
    "id" INTEGER NOT NULL DEFAULT 1,
    "storeId" UUID NOT NULL,

    CONSTRAINT "ArtifactStoreIdentity_pkey" PRIMARY KEY ("id")
);
