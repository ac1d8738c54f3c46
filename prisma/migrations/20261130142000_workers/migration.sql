-- CreateTable
CREATE TABLE "Worker" (
    "name" TEXT NOT NULL,
    "programVersion" TEXT NOT NULL,
    "kinds" "RunKind"[],
    "deviceIds" TEXT[],
    "isDraining" BOOLEAN NOT NULL DEFAULT false,
    "firstSeenAt" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "lastSeenAt" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "Worker_pkey" PRIMARY KEY ("name")
);
