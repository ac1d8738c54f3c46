/** A sealed version of drawn tissue, imported by the task itself. */
import path from 'node:path';
import { drawTissue } from '../../src/synthetic/tissue.ts';
import { importDatasetTask } from '../../workers/tasks/import-dataset.ts';
import type { TestDatabase } from './database.ts';
import { ADMIN, type TestRegistry } from './registry.ts';
import type { TaskRunner } from './task-runner.ts';

export interface DrawnVersionParts {
  readonly database: TestDatabase;
  readonly registry: TestRegistry;
  readonly runner: TaskRunner;
}

/** @param slug of the new dataset. @returns the id of its version: images of 48 px in four groups. */
export async function importDrawnVersion(
  { database, registry, runner }: DrawnVersionParts,
  slug: string,
  imagesPerLabel: number,
): Promise<string> {
  const images = path.join(runner.base, 'images');
  await drawTissue({ outDir: images, imagesPerLabel, imageSizePx: 48, seed: 3, groups: 4 });
  const dataset = await database.db.dataset.create({
    data: { slug, name: slug, imageKind: 'PATCH', synthetic: true },
  });
  const imported = await registry.runs.launchImport(ADMIN, {
    datasetId: dataset.id,
    path: images,
    layout: 'FOLDER_PER_LABEL',
  });
  await (await runner.claim(importDatasetTask, imported.id)).execute();
  return (await database.db.datasetVersion.findFirstOrThrow({ where: { importRunId: imported.id } })).id;
}
