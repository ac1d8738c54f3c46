/** Seeds the database with the catalogue of published checkpoints; idempotent. */
import { isDeepStrictEqual } from 'node:util';
import { z } from 'zod';
import { describeEncoder } from '../../formats/encoders/index.ts';
import { ADVISORY_LOCKS } from '../../platform/advisory-lock.ts';
import { transactionsOf, type Database } from '../../platform/db.ts';
import { networkColumns, toRecord } from './checkpoints.store.ts';
import { externalSourceSchema, trainingFactSchema } from './models.rules.ts';
import type { PublishedCheckpoint } from './published.rules.ts';

/** The result of seeding, as slugs. */
export interface PublishedSeedReport {
  readonly created: readonly string[];
  readonly updated: readonly string[];
  /** Skipped, because a model of a user already has the slug. */
  readonly kept: readonly string[];
}

/**
 * Creates a model with one external checkpoint for each new entry, and updates the facts of the others. If a checkpoint
 * already has weights, only the facts of its training can change: the others were read from its file. Safe to run from
 * several servers at once.
 */
export function seedPublishedCheckpoints(
  db: Database,
  published: readonly PublishedCheckpoint[],
): Promise<PublishedSeedReport> {
  return transactionsOf(db)(async (tx) => {
    await tx.$queryRaw`SELECT pg_advisory_xact_lock(${ADVISORY_LOCKS.SEED_CHECKPOINTS})::text`;
    const slugs = published.map(({ slug }) => slug);
    const known = new Map(
      (await tx.checkpoint.findMany({ where: { publishedSlug: { in: slugs } }, omit: { golden: true } })).map((row) => [
        row.publishedSlug,
        toRecord(row),
      ]),
    );
    const taken = new Set(
      (await tx.model.findMany({ where: { slug: { in: slugs } }, select: { slug: true } })).map(({ slug }) => slug),
    );
    const report = { created: new Array<string>(), updated: new Array<string>(), kept: new Array<string>() };
    for (const entry of published) {
      const { slug, name, description, architecture, inputContract, importedFrom } = entry;
      const trainingFacts = z.array(trainingFactSchema).parse(entry.trainingFacts);
      const ofFile = {
        ...networkColumns(architecture),
        embeddingDim: describeEncoder(architecture).embeddingDim(inputContract.pooling),
        inputContract,
        importedFrom: externalSourceSchema.parse(importedFrom),
      };
      const row = known.get(slug);
      if (row !== undefined) {
        const isUnread = row.sha256 === null;
        const isSame =
          isDeepStrictEqual(row.trainingFacts, trainingFacts) &&
          (!isUnread ||
            isDeepStrictEqual(
              [row.architecture, row.inputContract, row.importedFrom],
              [architecture, inputContract, ofFile.importedFrom],
            ));
        if (isSame) continue;
        await tx.checkpoint.update({
          where: { id: row.id },
          data: { trainingFacts, ...(isUnread ? ofFile : {}) },
        });
        report.updated.push(slug);
      } else if (taken.has(slug)) report.kept.push(slug);
      else {
        const model = await tx.model.create({ data: { slug, name, description, licence: importedFrom.licence } });
        await tx.checkpoint.create({
          data: { ...ofFile, trainingFacts, modelId: model.id, version: 1, publishedSlug: slug },
        });
        report.created.push(slug);
      }
    }
    return report;
  });
}
