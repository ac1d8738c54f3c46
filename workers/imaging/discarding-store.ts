/** An artifact store that keeps nothing, for a dry run and for a pass that will be repeated. */
import { createHash } from 'node:crypto';
import { streamOf, type ArtifactStore } from '../../src/platform/artifact-store/index.ts';

/** Reads the bytes to their end and returns the facts of the artifact that would have been stored. */
export function createDiscardingStore(): Pick<ArtifactStore, 'put'> {
  return {
    put: async (content) => {
      const hash = createHash('sha256');
      let byteSize = 0;
      for await (const chunk of streamOf(content)) {
        const bytes = typeof chunk === 'string' ? Buffer.from(chunk) : chunk;
        hash.update(bytes);
        byteSize += bytes.length;
      }
      return { sha256: hash.digest('hex'), byteSize };
    },
  };
}
