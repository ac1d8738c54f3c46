-- CreateTable
CREATE TABLE "Session" (
    "id" UUID NOT NULL,
    "keyId" UUID NOT NULL,
    "tokenDigest" TEXT NOT NULL,
    "address" TEXT,
    "createdAt" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "lastUsedAt" TIMESTAMPTZ(3),
    "expiresAt" TIMESTAMPTZ(3) NOT NULL,

    CONSTRAINT "Session_pkey" PRIMARY KEY ("id")
);

-- CreateIndex
CREATE UNIQUE INDEX "Session_tokenDigest_key" ON "Session"("tokenDigest");

-- CreateIndex
CREATE INDEX "Session_keyId_idx" ON "Session"("keyId");

-- CreateIndex
CREATE INDEX "Session_expiresAt_idx" ON "Session"("expiresAt");

-- AddForeignKey
ALTER TABLE "Session" ADD CONSTRAINT "Session_keyId_fkey" FOREIGN KEY ("keyId") REFERENCES "AccessKey"("id") ON DELETE CASCADE ON UPDATE CASCADE;
