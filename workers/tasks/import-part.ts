/** Reads a slide of an import that another worker holds. */
import { DomainError } from '../../src/errors.ts';
import { openImportFolder } from '../../src/platform/import-roots.ts';
import { programVersion } from '../../src/platform/program-version.ts';
import type { StoredBytes } from '../../src/protocol/artifacts.ts';
import { importConfigSchema } from '../../src/protocol/import.ts';
import type { PartOutcome } from '../../src/protocol/part-calls.ts';
import { openImageDecoders } from '../imaging/decoder/image-decoders.ts';
import { mapInOrder } from '../imaging/in-order.ts';
import type { ReadFile } from '../imaging/read-file.ts';
import { readingLimitsOf, readSource, type ReadingOptions } from '../imaging/read-source.ts';
import { readPlan, storeOutcome } from '../imaging/slides/slide-part.ts';
import { openImportReaders } from './import-readers.ts';
import type { TaskContext } from './task.ts';

export type PartContext = Pick<TaskContext, 'artifacts' | 'logger' | 'dataDir' | 'workDir' | 'throwIfStopped'>;

/**
 * @param rawConfig of the run.
 * @param stored the plan of the slide.
 * @returns what its batches gave, as the worker of the run would have read them.
 * @throws DomainError IMPORT_PATH_* where this machine does not have the folder; CONFLICT where its file of the slide
 * looks different, or this worker has another version of the program than that of the run.
 */
export async function readImportPart(
  context: PartContext,
  rawConfig: unknown,
  stored: StoredBytes,
): Promise<PartOutcome> {
  const { artifacts, logger, dataDir, workDir, throwIfStopped } = context;
  const { path, importRoots, slides, patchSizePx } = importConfigSchema.parse(rawConfig);
  if (slides === null || patchSizePx === null) throw new Error('Only an import of slides has parts.');
  await using folder = await openImportFolder(path, importRoots, 'input.path');
  const plan = await readPlan(artifacts, stored.sha256);
  if (plan.programVersion !== programVersion())
    throw new DomainError({
      code: 'CONFLICT',
      message: `This worker is Paraffin ${programVersion()}, and that of the run is ${plan.programVersion}.`,
      hint: 'Install the same version on all workers.',
    });
  const { relativePath } = plan;
  const facts = await folder.factsOf(relativePath);
  if (facts?.byteSize !== plan.facts.byteSize || facts.modifiedAtMs !== plan.facts.modifiedAtMs)
    throw new DomainError({
      code: 'CONFLICT',
      message:
        facts === null
          ? 'The slide is not in the folder on this machine.'
          : 'The slide has another size or time on this machine.',
      hint: 'Mount the same folder on all workers.',
    });
  await using decoders = openImageDecoders({
    hiddenFolder: dataDir,
    onFailure: (failure) => logger.warn(failure, 'an image decoder failed'),
  });
  await using readers = await openImportReaders(dataDir, (message) => logger.info(message));
  const options: ReadingOptions = {
    ...{ folder, layout: 'SLIDES', patchSizePx, decoders },
    slides: { readers, options: slides, patchSizePx },
  };
  // Labels, groups and splits are the plan's, and not of the patches.
  const sources = plan.batches.map((slide) => ({ relativePath, label: null, group: null, split: null, slide }));
  async function* batches(): AsyncGenerator<ReadFile> {
    const read = mapInOrder(sources, readingLimitsOf(options), (source, room) => readSource(options, source, room));
    for await (const batch of read) {
      throwIfStopped();
      yield batch;
    }
  }
  // Awaited here: the folder and the readers are closed at the end of this function.
  return await storeOutcome(artifacts, workDir, batches());
}
