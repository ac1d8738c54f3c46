/** Seeds the database with the catalogue of published checkpoints; idempotent. */
import { z } from 'zod';
import { ADVISORY_LOCKS } from '../../platform/advisory-lock.ts';
import { transactionsOf, type Database } from '../../platform/db.ts';
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
 * already has weights, the facts that were read from its file are kept. Safe to run from several servers at once.
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
        row,
      ]),
    );
    const taken = new Set(
      (await tx.model.findMany({ where: { slug: { in: slugs } }, select: { slug: true } })).map(({ slug }) => slug),
    );
    const report = { created: new Array<string>(), updated: new Array<string>(), kept: new Array<string>() };
    for (const { slug, name, description, importedFrom, trainingFacts, ...facts } of published) {
      const data = {
        trainingFacts: z.array(trainingFactSchema).parse(trainingFacts),
        importedFrom: externalSourceSchema.parse(importedFrom),
      };
      const row = known.get(slug);
      if (row !== undefined) {
        const isSame =
          JSON.stringify(z.array(trainingFactSchema).parse(row.trainingFacts)) === JSON.stringify(data.trainingFacts);
        const source = row.sha256 === null ? data.importedFrom : externalSourceSchema.parse(row.importedFrom);
        if (isSame && JSON.stringify(externalSourceSchema.parse(row.importedFrom)) === JSON.stringify(source)) continue;
        await tx.checkpoint.update({
          where: { id: row.id },
          data: { trainingFacts: data.trainingFacts, importedFrom: source },
        });
        report.updated.push(slug);
      } else if (taken.has(slug)) report.kept.push(slug);
      else {
        const model = await tx.model.create({ data: { slug, name, description, licence: importedFrom.licence } });
        await tx.checkpoint.create({ data: { ...facts, ...data, modelId: model.id, version: 1, publishedSlug: slug } });
        report.created.push(slug);
      }
    }
    return report;
  });
}
