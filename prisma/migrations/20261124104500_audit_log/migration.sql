-- CreateEnum
CREATE TYPE "AuditOutcome" AS ENUM ('DONE', 'REJECTED', 'DENIED', 'FAILED');

-- CreateTable
CREATE TABLE "AuditEntry" (
    "sequence" BIGINT NOT NULL,
    "at" TIMESTAMPTZ(3) NOT NULL,
    "person" TEXT,
    "keyId" TEXT,
    "keyName" TEXT,
    "address" TEXT,
    "requestId" TEXT NOT NULL,
    "action" TEXT NOT NULL,
    "subject" TEXT,
    "outcome" "AuditOutcome" NOT NULL,
    "code" TEXT,
    "previousHash" TEXT NOT NULL,
    "hash" TEXT NOT NULL,

    CONSTRAINT "AuditEntry_pkey" PRIMARY KEY ("sequence")
);

-- CreateIndex
CREATE UNIQUE INDEX "AuditEntry_hash_key" ON "AuditEntry"("hash");

-- CreateIndex
CREATE INDEX "AuditEntry_keyId_sequence_idx" ON "AuditEntry"("keyId", "sequence");

-- CreateIndex
CREATE INDEX "AuditEntry_person_sequence_idx" ON "AuditEntry"("person", "sequence");

-- CreateIndex
CREATE INDEX "AuditEntry_action_sequence_idx" ON "AuditEntry"("action", "sequence");

-- CreateIndex
CREATE INDEX "AuditEntry_outcome_sequence_idx" ON "AuditEntry"("outcome", "sequence");

-- Append-only: whoever may write here may still not rewrite. (The owner of the database can switch triggers off; the chain of hashes tells.)
CREATE FUNCTION "refuseAuditChange"() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'The audit log is append-only: % is refused.', TG_OP;
END
$$;
CREATE TRIGGER "AuditEntry_append_only" BEFORE UPDATE OR DELETE OR TRUNCATE ON "AuditEntry" FOR EACH STATEMENT EXECUTE FUNCTION "refuseAuditChange"();
