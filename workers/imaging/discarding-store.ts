/** Stands in for the artifact store where nothing is to be kept: a dry run, and a pass that is done over again. */
import { createHash } from 'node:crypto';
import type { ArtifactStore } from '../../src/platform/artifact-store.ts';

/** Reads what it is given to its end and says what would have been stored. */
export function createDiscardingStore(): Pick<ArtifactStore, 'put'> {
  return {
    put: async (content) => {
      const hash = createHash('sha256');
      let byteSize = 0;
      const chunks: AsyncIterable<Uint8Array | string> = content instanceof Uint8Array ? inOne(content) : content;
      for await (const chunk of chunks) {
        const bytes = typeof chunk === 'string' ? Buffer.from(chunk) : chunk;
        hash.update(bytes);
        byteSize += bytes.length;
      }
      return { sha256: hash.digest('hex'), byteSize };
    },
  };
}

async function* inOne(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield await Promise.resolve(bytes);
}
