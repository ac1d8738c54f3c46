/** An artifact store that keeps nothing, for a dry run and for a pass that will be repeated. */
import { createHash } from 'node:crypto';
import type { ArtifactStore } from '../../src/platform/artifact-store/index.ts';

/** Reads the bytes to their end and returns the facts of the artifact that would have been stored. */
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
