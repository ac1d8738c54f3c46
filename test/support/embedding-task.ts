/** A task that computes the embeddings of an evaluation, in blocks of a few images. */
import { evaluatedEmbeddings } from '../../workers/tasks/evaluation/embeddings.ts';
import type { RunnableTask } from './task-runner.ts';
import { imagesOfVersion, sealedVersion } from '../../workers/tasks/version-manifest.ts';

export interface EmbeddingTaskConfig {
  readonly checkpointId: string;
  readonly datasetVersionId: string;
  readonly blockImages: number;
}

/** @param onProgress called with the fraction 0..1 after each batch, and awaited. */
export function embeddingTask(
  { checkpointId, datasetVersionId, blockImages }: EmbeddingTaskConfig,
  onProgress: (fraction: number) => Promise<void> = async () => undefined,
): RunnableTask {
  return {
    kind: 'EVALUATION',
    run: async (context) => {
      const checkpoint = await context.registry.checkpoint({ id: checkpointId });
      const version = await sealedVersion(context.registry, datasetVersionId);
      await evaluatedEmbeddings(context, {
        checkpoint,
        version,
        images: await imagesOfVersion(context, version),
        randomEncoderSeed: 1,
        sources: ['CHECKPOINT', 'RANDOM_ENCODER'],
        blockImages,
        onProgress: async (fraction, message) => {
          await context.progress(fraction, message);
          await onProgress(fraction);
        },
      });
      return undefined;
    },
  };
}
