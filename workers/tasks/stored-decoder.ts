/** The decoder of a run's sealed images. */
import type { OpenStoredDecoder } from '../engine/data/stored-decoder.ts';
import { storedDecoders } from '../imaging/decoder/stored-decoder.ts';
import type { TaskContext } from './task.ts';

/** @returns what the readers of batches take as `openDecoder`. */
export function storedDecoderOf(context: Pick<TaskContext, 'dataDir' | 'workDir' | 'logger'>): OpenStoredDecoder {
  return storedDecoders({
    hiddenFolder: context.dataDir,
    scratchFolder: context.workDir,
    onFailure: (failure) => context.logger.warn(failure, 'a decoder of images failed'),
  });
}
