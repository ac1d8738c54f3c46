/** The artifact store: the interface, and the choice of an implementation. */
import { openLocalStore, type LocalArtifactStore } from './local.ts';

export { isBadSector, type LocalArtifactStore } from './local.ts';
export { openLocalFiles, type LocalFile, type LocalFiles } from './local-files.ts';
export { verifyArtifact } from './verify.ts';
export {
  artifactCorrupt,
  type ArtifactStore,
  type ByteRange,
  type ByteSource,
  type StoredBytes,
  type StoredFacts,
  type StoredFile,
} from './store.ts';

/**
 * @param folder of a local store.
 * @param writer names this process's unfinished files, so that they can be removed when it has ended.
 */
export function openArtifactStore(folder: string, writer = ''): LocalArtifactStore {
  return openLocalStore(folder, writer);
}
