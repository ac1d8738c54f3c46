/** Imports with small shards, and imports that are interrupted at a given point. */
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { drawTissue } from '../../src/synthetic/tissue.ts';
import { importTask } from '../../workers/tasks/import-dataset.ts';
import type { Task } from '../../workers/tasks/task.ts';
import { tissueJpeg, tissuePng } from '../fixtures/hostile-images.ts';

/** Shards of a few images, so that a small folder has several. */
export const SMALL_SHARDS = { byteLimit: 1e9, imageLimit: 5 };

export type InterruptionPoint =
  /** Between two files, counted from 1. */
  | { readonly file: number }
  /** A shard is sealed, and its block (from 1) is not registered. */
  | { readonly beforeBlock: number }
  /** After the block, and so many files more. */
  | { readonly afterBlock: number; readonly files?: number }
  /** All images are packed, and the last shard is not sealed. */
  | 'REPORT'
  /** The outcome is made, and the registry does not have it. */
  | 'REGISTRATION';

export const smallImportTask: Task = importTask(SMALL_SHARDS);

/** @param interrupt called at the point; it never returns. */
export function interruptedImport(point: InterruptionPoint, interrupt: () => never): Task {
  return {
    kind: 'IMPORT',
    run: async (context, config) => {
      let files = 0;
      let blocks = 0;
      let filesSince = 0;
      const at = (isReached: boolean): void => {
        if (isReached) interrupt();
      };
      const result = await smallImportTask.run(
        {
          ...context,
          throwIfStopped: () => {
            files += 1;
            at(typeof point === 'object' && 'file' in point && point.file === files);
            if (typeof point === 'object' && 'afterBlock' in point && point.afterBlock === blocks) filesSince += 1;
            at(typeof point === 'object' && 'files' in point && point.files === filesSince);
            context.throwIfStopped();
          },
          registry: {
            ...context.registry,
            keepImportBlock: async (input) => {
              blocks += 1;
              at(typeof point === 'object' && 'beforeBlock' in point && point.beforeBlock === blocks);
              const answer = await context.registry.keepImportBlock(input);
              at(
                typeof point === 'object' &&
                  'afterBlock' in point &&
                  !('files' in point) &&
                  point.afterBlock === blocks,
              );
              return answer;
            },
            setImportReport: async (input) => {
              const answer = await context.registry.setImportReport(input);
              at(point === 'REPORT');
              return answer;
            },
          },
        },
        config,
      );
      at(point === 'REGISTRATION');
      return result;
    },
  };
}

/**
 * Draws 27 images of four labels, one of them twice, two files that are none, and one outside the labels.
 * @param seed other images for another one. @returns the number of files.
 */
export async function drawImportFolder(folder: string, seed = 11): Promise<number> {
  await drawTissue({ outDir: folder, imagesPerLabel: 6, imageSizePx: 64, seed, groups: 2 });
  await writeFile(path.join(folder, 'gland', 'aa-broken.png'), 'x');
  await writeFile(path.join(folder, 'stroma', 'broken.jpg'), (await tissueJpeg(64, seed + 3)).subarray(0, 300));
  await writeFile(path.join(folder, 'outside.png'), await tissuePng(64, seed + 4));
  await writeFile(path.join(folder, 'lymphoid', 'zz-twin.png'), await tissuePng(64, seed + 5));
  await writeFile(path.join(folder, 'lymphoid', 'zz-twin-again.png'), await tissuePng(64, seed + 5));
  await writeFile(path.join(folder, 'tumour', 'zz-last.png'), await tissuePng(64, seed + 6));
  await writeFile(path.join(folder, 'tumour', 'zz-very-last.png'), await tissuePng(64, seed + 7));
  return 31;
}
