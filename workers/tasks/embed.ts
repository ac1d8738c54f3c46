/** Embedding: computes and stores the embeddings of every image of a version, unless they are stored. */
import { DomainError } from '../../src/errors.ts';
import { embeddingConfigSchema } from '../../src/protocol/embedding.ts';
import { engineInfo } from '../engine/tensorflow.ts';
import { evaluatedEmbeddings } from './evaluation/embeddings.ts';
import type { Task } from './task.ts';
import { imagesOfVersion, sealedVersion } from './version-manifest.ts';

export const embedTask: Task = {
  kind: 'EMBEDDING',
  run: async (context, rawConfig) => {
    const config = embeddingConfigSchema.parse(rawConfig);
    await context.registry.setEnvironment({ environment: { engine: engineInfo() } });
    const checkpoint = await context.registry.checkpoint({ id: config.checkpointId });
    const version = await sealedVersion(context.registry, config.datasetVersionId);
    if (checkpoint.sha256 !== config.checkpointSha256 || version.digest !== config.datasetDigest)
      throw new DomainError({
        code: 'CONFLICT',
        message: 'The checkpoint or the version is another than at launch.',
        hint: 'Launch the embedding again.',
      });
    const images = await imagesOfVersion(context, version);
    await evaluatedEmbeddings(context, {
      ...{ checkpoint, version, images, sources: ['CHECKPOINT'] },
      // Not used: the random encoder is not among the sources.
      randomEncoderSeed: 0,
      onProgress: async (fraction, message) => {
        context.throwIfStopped();
        await context.progress(fraction, message);
      },
    });
    return {
      message: `Embedded ${images.length} images as ${checkpoint.embeddingDim} numbers each.`,
      outcome: { kind: 'EMBEDDING' },
    };
  },
};
